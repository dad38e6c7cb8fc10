from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.criteria import CRITERIA
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.fpgm import fpgm
from edgelathe.compress.prune.importance import channel_importance, group_importance, scorable
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.plan import Group
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def samples() -> Samples:
    generator = torch.Generator().manual_seed(9)
    return Samples(torch.randn(6, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 3, 1]))


def _importance(model: nn.Module, groups: tuple[Group, ...], criterion: Any, **settings: Any) -> dict[str, Tensor]:
    return channel_importance(model, groups, criterion, **({"samples": None, "seed": 0} | settings))


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Inverted", "Upsampling"])
@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_scores_every_group_that_it_can(
    make: Make, example: Tensor, samples: Samples, name: str, criterion: str
) -> None:
    model = make(name)
    before = state_sha256(model)
    traced = trace_groups(model, example, ())
    if criterion == "bn-scale" and name in ("Residual", "Upsampling"):
        with pytest.raises(EdgeLatheError) as caught:
            scorable(model, traced, criterion)
        assert str(caught.value) == (
            "Cannot rank channels by bn-scale: no channels that can be cut have a batch norm behind them; choose a "
            "criterion that looks at weights (fpgm, l1, l2)."
        )
        return
    groups = scorable(model, traced, criterion)
    importance = _importance(model, groups, criterion, samples=samples)
    assert importance.keys() == {group.layer for group in groups if not group.reason}
    for group in groups:
        if not group.reason:
            assert importance[group.layer].shape == (group.before,)
            assert bool(torch.isfinite(importance[group.layer]).all())
    assert state_sha256(model) == before
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_one_layer_is_scored_by_the_criterion_alone(make: Make, example: Tensor) -> None:
    model = make("Residual")
    groups = trace_groups(model, example, ())
    found = _importance(model, groups, "fpgm")["inner"]
    assert torch.allclose(found, fpgm(model.inner.weight.detach().flatten(1)), rtol=1e-6, atol=0)  # type: ignore[union-attr, operator]


def test_layers_that_share_channels_have_equal_votes() -> None:
    loud, quiet = torch.tensor([100.0, 300.0]), torch.tensor([3.0, 1.0])
    # Means 200 and 2: (0.5 + 1.5) / 2 and (1.5 + 0.5) / 2, times 101.
    assert group_importance([loud, quiet]).tolist() == pytest.approx([101.0, 101.0])
    assert group_importance([loud]).tolist() == [100.0, 300.0]


def test_a_layer_that_makes_some_of_the_channels_votes_on_those() -> None:
    nan = float("nan")
    # Means 2 and 3: 0.5 and 1.5, then 1.5 and (1 and 1).
    found = group_importance([torch.tensor([1.0, 3.0, nan]), torch.tensor([nan, 3.0, 3.0])])
    assert found.tolist() == pytest.approx([0.5 * 2.5, 1.25 * 2.5, 1.0 * 2.5])
    assert group_importance([torch.zeros(2), torch.tensor([1.0, 3.0])]).tolist() == pytest.approx([0.25, 0.75])


def test_shared_channels_by_hand(make: Make, example: Tensor) -> None:
    model = make("Residual")
    found = _importance(model, trace_groups(model, example, ()), "l1")["stem"]
    stem, outer = (l1(layer.weight.detach().flatten(1)) for layer in (model.stem, model.outer))  # type: ignore[union-attr, operator]
    wanted = (stem / stem.mean() + outer / outer.mean()) / 2 * (stem.mean() + outer.mean()) / 2
    assert torch.allclose(found, wanted, rtol=1e-5, atol=0)


def test_batch_norm_scales_behind_layers(make: Make, example: Tensor) -> None:
    model = make("Dense")
    groups = scorable(model, trace_groups(model, example, ()), "bn-scale")
    found = _importance(model, groups, "bn-scale")
    # One batch norm over both parts of a concatenation: each layer has its own stretch of it.
    scale = model.bn.weight.detach().abs()  # type: ignore[union-attr, operator]
    assert torch.equal(found["a"], scale[:6])
    assert torch.equal(found["b"], scale[6:])
    reasons = {group.layer: group.reason for group in groups}
    assert reasons["c"] == (
        "bn-scale looks at the scales of batch norms, and none follows the layers that make its channels"
    )
    assert reasons["a"] == reasons["b"] == ""


def test_the_batch_norm_is_that_of_the_layer_and_not_of_its_neighbour(example: Tensor) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv0, self.bn0 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.conv1, self.conv2 = nn.Conv2d(4, 5, 1), nn.Conv2d(5, 4, 1)
            self.bn1, self.bn2 = nn.BatchNorm2d(5), nn.BatchNorm2d(4)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.bn0(self.conv0(x)))
            x = x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return self.fc(x.mean(dim=(2, 3)))

    model = Block().eval()
    with torch.no_grad():
        for factor, norm in ((1.0, model.bn0), (10.0, model.bn1), (-100.0, model.bn2)):
            norm.weight.copy_(factor * torch.arange(1.0, norm.num_features + 1))
    groups = trace_groups(model, example, ())
    assert _importance(model, groups, "bn-scale")["conv1"].tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]
    # bn0 and bn2 share the stream: equal votes, whatever their size.
    stream = _importance(model, groups, "bn-scale")["conv0"]
    assert torch.allclose(stream / stream[0], torch.tensor([1.0, 2.0, 3.0, 4.0]), rtol=1e-5, atol=0)
    plain = Block().eval()
    plain.bn1 = nn.BatchNorm2d(5, affine=False)
    assert scorable(plain, trace_groups(plain, example, ()), "bn-scale")[1].reason.startswith("bn-scale looks at")


def test_a_batch_norm_in_another_place_is_not_taken_for_the_layers_own(make: Make, example: Tensor) -> None:
    model = make("Inverted")
    asked: list[int] = []

    def both(filters: Tensor, norm_scale: Tensor) -> Tensor:
        asked.append(len(filters))
        return norm_scale * filters.abs().sum(dim=1)

    groups = scorable(model, trace_groups(model, example, ()), both)
    assert {group.layer: bool(group.reason) for group in groups} == {
        "stem": True, "expand": False, "squeeze": True, "fc": True
    }  # fmt: skip
    found = _importance(model, groups, both)["expand"]
    assert asked == [12], "depthwise and excite, of the same channels, have no batch norm behind them"
    norm = model.bn.weight.detach() * l1(model.expand.weight.detach().flatten(1))  # type: ignore[union-attr, operator]
    assert torch.allclose(found, norm, rtol=1e-6, atol=0)


def test_taylor_and_obd_against_the_loss(make: Make, example: Tensor, samples: Samples) -> None:
    model = make("Residual")
    groups = trace_groups(model, example, ())
    weight = model.inner.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    loss = F.cross_entropy(model(samples.inputs), samples.labels)
    (gradient,) = torch.autograd.grad(loss, [weight])
    wanted = (weight * gradient).detach().square().sum(dim=(1, 2, 3))
    assert torch.allclose(_importance(model, groups, "taylor", samples=samples)["inner"], wanted, rtol=1e-4, atol=0)
    # All samples are one batch of six: 1/2 * 6 g^2 u^2.
    found = _importance(model, groups, "obd", samples=samples)["inner"]
    assert torch.allclose(found, 3 * wanted, rtol=1e-4, atol=0)


def test_hrank_of_a_channel_that_is_constant_is_low(make: Make, example: Tensor, samples: Samples) -> None:
    model = make("Residual")
    with torch.no_grad():
        model.inner.weight[3] = 0  # type: ignore[union-attr, index, operator]
        model.inner.bias.fill_(1.0)  # type: ignore[union-attr, operator]
    found = _importance(model, trace_groups(model, example, ()), "hrank", samples=samples)["inner"]
    assert found[3] == 1.0
    assert int(found.argmin()) == 3
    assert float(found.max()) > 4


def test_random_is_seeded_and_differs_between_layers(make: Make, example: Tensor) -> None:
    model = make("Residual")
    groups = trace_groups(model, example, ())
    first, again, other = (_importance(model, groups, "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first["inner"], again["inner"])
    assert not torch.equal(first["inner"], other["inner"])
    assert not torch.equal(first["inner"][:8], first["stem"])
    alone = [group for group in groups if group.layer == "inner"]
    assert torch.equal(channel_importance(model, alone, "random", samples=None, seed=1)["inner"], first["inner"])


def test_a_function_of_a_users_own_gets_what_it_names(make: Make, example: Tensor, samples: Samples) -> None:
    model = make("Chain")
    seen: dict[str, tuple[int, ...]] = {}

    def own(filters: Tensor, gradients: Tensor, maps: Tensor, seed: int, power: float = 2.0) -> Tensor:
        seen["maps"] = tuple(maps.shape)
        assert filters.shape == gradients.shape
        assert isinstance(seed, int)
        return filters.abs().sum(dim=1) ** power

    groups = tuple(group for group in trace_groups(model, example, ()) if group.layer == "conv1")
    found = _importance(model, groups, own, samples=samples)["conv1"]
    assert torch.allclose(found, l1(model.conv1.weight.detach().flatten(1)) ** 2, rtol=1e-5, atol=0)  # type: ignore[union-attr, operator]
    assert seen["maps"] == (6, 8, 8, 8)


def test_groups_with_a_reason_are_left_out(make: Make, example: Tensor) -> None:
    model = make("Residual")
    groups = tuple(
        replace(group, reason="said so") if group.layer == "inner" else group
        for group in trace_groups(model, example, ())
    )
    assert _importance(model, groups, "l1").keys() == {"stem"}
    assert scorable(model, groups, "l1") == groups


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (
            "hrank",
            "Cannot rank channels by hrank: it looks at what training images do in the network, and there are none; "
            "give samples, or choose a criterion that looks at weights alone (fpgm, l1, l2).",
        ),
        (
            lambda filters: filters,
            "Cannot rank the channels of stem: the criterion must return 8 finite numbers; "
            "mend the criterion or the weights.",
        ),
        (
            lambda filters: filters.sum(dim=1) * float("nan"),
            "Cannot rank the channels of stem: the criterion must return 8 finite numbers; "
            "mend the criterion or the weights.",
        ),
        (
            lambda filters: [0.0] * len(filters),
            "Cannot rank the channels of stem: the criterion must return 8 finite numbers; "
            "mend the criterion or the weights.",
        ),
    ],
)
def test_criteria_that_cannot_be_used(make: Make, example: Tensor, criterion: Any, message: str) -> None:
    model = make("Residual")
    with pytest.raises(EdgeLatheError) as caught:
        _importance(model, trace_groups(model, example, ()), criterion)
    assert str(caught.value) == message
