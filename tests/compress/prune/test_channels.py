from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.apply import silence
from edgelathe.compress.prune.channels import plan_channels, prune_channels
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.macs import count_macs
from edgelathe.compress.prune.plan import PruningPlan
from edgelathe.errors import EdgeLatheError
from edgelathe.models import weights, zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]

ALL = ["Chain", "Residual", "OptionA", "OwnOptionA", "Dense", "Inverted", "Upsampling", "Grouped", "Positional"]


def _same_outputs(model: nn.Module, pruned: nn.Module, plan: PruningPlan, example: Tensor) -> None:
    """The pruned network must equal the whole one in which nothing reads the channels that are gone."""
    with torch.no_grad():
        wanted = silence(model, plan.groups)(example)
        assert torch.allclose(pruned(example), wanted, rtol=0, atol=1e-5)
        assert not torch.allclose(model(example), wanted, rtol=0, atol=1e-5)


def _widths(plan: PruningPlan) -> dict[str, tuple[int, int]]:
    return {width.layer: (width.before, width.after) for width in plan.widths}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("criterion", ["fpgm", "l1", "random"])
def test_pruned_network_equals_the_whole_one_without_those_channels(
    make: Make, example: Tensor, name: str, criterion: str
) -> None:
    model = make(name)
    before = state_sha256(model)
    pruned, plan = prune_channels(model, example, criterion=criterion, keep_macs=0.75)
    assert state_sha256(model) == before
    _same_outputs(model, pruned, plan, example)
    assert (plan.macs_before, plan.parameters_before) == count_macs(model, example)
    assert (plan.macs_after, plan.parameters_after) == count_macs(pruned, example)
    assert 0.4 * plan.macs_before < plan.macs_after <= 0.75 * plan.macs_before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(ALL[:7]),
    keep=st.floats(0.72, 1.0),
    multiple=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_target_is_met_and_no_wider_step_would_meet_it(
    make: Make, example: Tensor, name: str, keep: float, multiple: int, seed: int
) -> None:
    model = make(name)
    plan = plan_channels(model, example, criterion="random", keep_macs=keep, multiple=multiple, seed=seed)
    assert plan.macs_after <= keep * plan.macs_before
    for group in plan.groups:
        assert bool(group.reason) == (group.after == group.before)
        assert group.reason or group.after % multiple == 0
    if plan.ratio < 1:
        wider = plan_channels(
            model, example, criterion="random", keep_macs=min(1.0, keep + 0.2), multiple=multiple, seed=seed
        )
        assert wider.ratio >= plan.ratio


def test_widest_uniform_widths_within_the_target(make: Make, example: Tensor) -> None:
    # 8x8 pixels: stem 3*8*9*64, inner and outer 8*10*9*64 each; stream and inner layer keep the same share.
    model = make("Residual")
    plan = plan_channels(model, example, keep_macs=0.5)
    tried = {}
    for number in range(1, 100):
        stream, inner = (max(1, int(number / 100 * width + 0.5)) for width in (8, 10))
        tried[stream, inner] = 64 * 9 * (3 * stream + 2 * stream * inner) + 4 * stream
    fitting = {widths: macs for widths, macs in tried.items() if macs <= plan.macs_before / 2}
    best = max(fitting, key=lambda widths: fitting[widths])
    assert (_widths(plan)["stem"][1], _widths(plan)["inner"][1]) == best
    assert plan.macs_after == fitting[best]


def test_keeps_the_most_important_channels(make: Make, example: Tensor) -> None:
    model = make("Chain")
    with torch.no_grad():
        model.conv1.weight.copy_(torch.arange(8.0)[:, None, None, None] % 5 + 1)  # type: ignore[operator, union-attr]
    plan = plan_channels(model, example, criterion=l1, keep_macs=0.6, ignore=["conv2", "fc1"])
    group = plan.groups[0]
    assert group.layer == "conv1"
    order = [4, 3, 2, 7, 1, 6, 0, 5]  # by norm, equals in order
    assert group.keep == tuple(sorted(order[: group.after]))
    assert plan.criterion == "l1"


def test_every_layer_left_alone_has_its_reason(make: Make, example: Tensor) -> None:
    def reasons(name: str) -> dict[str, str]:
        plan = plan_channels(make(name), example, keep_macs=0.9)
        return {width.layer: width.reason for width in plan.widths}

    joined = "the option A shortcut shortcut joins its channels to others by position"
    outputs = "its channels are the network's outputs"
    assert reasons("OptionA") == {"stem": joined, "inner": "", "outer": joined, "fc": outputs}
    own = reasons("OwnOptionA")
    assert own["inner"] == ""
    assert own["outer"].startswith("cutting its channels ")
    positional = reasons("Positional")
    assert positional["a"] == "cutting its channels changes what other layers compute"
    assert positional["b"] == ""
    grouped = reasons("Grouped")
    tied = "the grouped convolution grouped ties its channels together"
    assert (grouped["a"], grouped["grouped"], grouped["free"]) == (tied, tied, "")
    assert grouped["b"] == "norm (GroupNorm) normalises across channels, so fewer would change the others"


def test_layers_that_share_channels_are_cut_together(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Inverted"), example, keep_macs=0.5)
    widths = _widths(plan)
    assert widths["expand"] == widths["depthwise"] == widths["excite"]
    assert widths["stem"] == widths["project"]
    assert widths["squeeze"][1] < 4
    group = next(group for group in plan.groups if group.layer == "expand")
    layers = {(member.layer, member.side) for member in group.members}
    assert layers == {
        ("expand", "out"), ("bn", "channels"), ("depthwise", "channels"), ("squeeze", "in"),
        ("excite", "out"), ("project", "in"),
    }  # fmt: skip


def test_flattened_map_loses_all_pixels_of_a_channel(make: Make, example: Tensor) -> None:
    pruned, plan = prune_channels(make("Chain"), example, keep_macs=0.6)
    member = next(m for group in plan.groups for m in group.members if (m.layer, m.side) == ("fc1", "in"))
    assert (member.count, member.repeat) == (6, 16)
    assert pruned.fc1.in_features == 16 * pruned.conv2.out_channels  # type: ignore[union-attr, operator]


def test_widths_are_whole_multiples(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=0.6, multiple=4)
    widths = _widths(plan)
    assert widths["stem"] == (8, 4)
    assert widths["inner"] in {(10, 4), (10, 8), (10, 10)}


def test_ignored_layers_keep_their_outputs(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=0.9, ignore=["outer"])
    assert _widths(plan)["stem"] == (8, 8)
    assert plan.widths[0].reason == "outer is named in ignore"
    with pytest.raises(EdgeLatheError) as caught:
        plan_channels(make("Residual"), example, ignore=["outr"])
    assert str(caught.value) == 'Unknown layer in ignore "outr": did you mean "outer"?'


def test_everything_kept(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=1.0)
    assert plan.macs_after == plan.macs_before
    assert plan.groups[0].reason == "the target is met without cutting it"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Residual", {"keep_macs": 0.0}, r"Cannot use keep_macs = 0.0: it must be above 0 and at most 1\."),
        ("Residual", {"multiple": 0}, r"Cannot use multiple = 0: it must be 1 or more\."),
        ("Residual", {"scope": "global"}, 'Unknown scope "global": valid are: uniform.'),
        ("Residual", {"keep_macs": 0.01}, r"Cannot prune to 1.0% of the MACs: .* narrowest 2\.7% remain"),
        ("Chain", {"ignore": ["conv1", "conv2", "fc1"]}, "no group of channels may be cut .conv1: conv1 is named"),
        ("Chain", {"criterion": lambda filters: filters}, "criterion must return 8 finite numbers"),
    ],
)  # fmt: skip
def test_impossible_requests(make: Make, example: Tensor, name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        plan_channels(make(name), example, **settings)  # type: ignore[arg-type]


def test_networks_that_cannot_run_or_be_followed(make: Make, example: Tensor) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot run the network on images of shape \[1 x 8 x 8\]"):
        plan_channels(make("Residual"), example[:, :1])
    broken = make("Residual")
    with torch.no_grad():
        broken.fc.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(EdgeLatheError, match="does not return one tensor of finite numbers"):
        plan_channels(broken, example)


def test_frozen_and_training_networks_stay_so(make: Make, example: Tensor) -> None:
    model = make("Residual").train().requires_grad_(False)
    pruned, _ = prune_channels(model, example, keep_macs=0.5)
    assert all(module.training for module in pruned.modules())
    assert not any(parameter.requires_grad for parameter in pruned.parameters())


def test_pruned_network_trains(make: Make, example: Tensor) -> None:
    pruned, _ = prune_channels(make("Inverted"), example, keep_macs=0.5)
    pruned.train()(example).sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())


def test_published_resnet32_at_half_the_macs(test_data: Path) -> None:
    model = zoo.build("cifar_resnet32", num_classes=10).eval()
    weights.load_weights(model, next((test_data / "weights" / "cifar10").glob("resnet32*.th")))
    example = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pruned, plan = prune_channels(model, example, criterion="fpgm", keep_macs=0.5)
    assert (plan.macs_before, plan.parameters_before) == (68_862_592, 464_154)
    assert 0.49 < plan.macs_after / plan.macs_before <= 0.5
    assert set(_widths(plan).values()) == {(16, 16), (32, 32), (64, 64), (16, 8), (32, 16), (64, 31), (10, 10)}  # fmt: skip  # noqa: E501
    assert sum(not group.reason for group in plan.groups) == 15
    _same_outputs(model, pruned, plan, example)
