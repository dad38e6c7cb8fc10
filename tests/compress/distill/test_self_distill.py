from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill.self_distill import (
    SelfDistillation,
    SelfDistilled,
    self_distill,
    self_distillation_terms,
)
from edgelathe.compress.objective import Batch
from edgelathe.compress.sparsify.hold import HeldZeros
from edgelathe.compress.train import train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from edgelathe.models.exits import Exit, Exits
from torch import Tensor, nn

MakeNet = Callable[[], nn.Module]


class Killed(BaseException):
    pass


@pytest.fixture
def staged_net() -> MakeNet:
    """Three resolutions, with dropout: the same weights at every call."""

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1),
                nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
            )  # fmt: skip

    return make


def distilled(model: nn.Module, data: Dataset, **settings: Any) -> SelfDistilled:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 2, "batch": 16, "lr": 0.05, "augment": "shift",
        "precision": "float32", "progress": False,
    }  # fmt: skip
    return self_distill(model, data, **{**defaults, **settings})


# --- the loss -----------------------------------------------------------------------------------------------


def test_terms_against_numbers_computed_by_hand() -> None:
    # Softened by T = 2: the network answers (4, 1) / 5, the exits (1, 1) / 2 and (4, 1) / 5 to both images.
    own = torch.tensor([[2 * math.log(4), 0.0]] * 2)
    exits = torch.tensor([[[0.0, 0.0]] * 2, [[2 * math.log(4), 0.0]] * 2])
    own_features = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [1.0, 0.0]]])
    label_losses = torch.tensor([[1.0, 3.0], [0.5, 0.5], [0.25, 0.75]])
    terms = self_distillation_terms(own, exits, own_features, features, label_losses, temperature=2.0)
    divergence = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert terms.labels.item() == pytest.approx(2.0 + 0.5 + 0.5)
    assert terms.answers.item() == pytest.approx(divergence, rel=1e-6)
    assert terms.features.item() == pytest.approx((0 + 25) / 2 + (5 + 1) / 2)
    total = terms.total(alpha=0.1, temperature=2.0, beta=0.01)
    assert total.item() == pytest.approx(0.9 * 3.0 + 0.1 * 4 * divergence + 0.01 * 15.5, rel=1e-6)


def test_the_networks_own_answer_and_features_only_teach() -> None:
    generator = torch.Generator().manual_seed(0)
    own, own_features = (torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(2))
    exits, features = (torch.randn(2, 4, 3, generator=generator).requires_grad_() for _ in range(2))
    terms = self_distillation_terms(own, exits, own_features, features, torch.zeros(3, 4), temperature=3.0)
    (terms.answers + terms.features).backward()
    assert own.grad is None
    assert own_features.grad is None
    assert exits.grad is not None and features.grad is not None
    assert bool((exits.grad != 0).any()) and bool((features.grad != 0).any())


def test_exits_without_labels_leave_what_lies_behind_them_alone(blobs: Dataset) -> None:
    """With alpha = 1 everything is learned from the network's own answer, which nothing teaches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    objective = SelfDistillation(
        Exits([Exit("0", 4, 8, 5, (2, 2), 5)]), "1", alpha=1.0, temperature=3.0, beta=1.0, label_smoothing=0.0
    )
    assert blobs.train is not None
    labels, images = torch.from_numpy(blobs.train.y[:6]), torch.from_numpy(blobs.train.x[:6])
    inputs = images.permute(0, 3, 1, 2) / 255
    with objective.listening(model.train()):
        logits = model(inputs)
        batch = Batch(logits, labels, images, inputs, blobs.preprocess, nullcontext, torch.arange(6))
        objective(batch).backward()
    assert float(model.get_parameter("0.weight").grad.abs().max()) > 0  # type: ignore[union-attr]
    behind = model.get_parameter("1.weight").grad
    assert behind is None or float(behind.abs().max()) == 0


# --- training -----------------------------------------------------------------------------------------------


def test_exits_learn_and_are_counted(blobs: Dataset, staged_net: MakeNet) -> None:
    result = distilled(staged_net(), blobs, epochs=6, alpha=0.3)
    assert [count.output for count in result.counts] == ["2", "6", "logits"]
    assert all(count.total == 45 and count.correct >= 36 for count in result.counts)
    assert result.training.test_accuracy == result.counts[-1].correct / 45
    assert result.exit_parameters == sum(
        8 * inputs + 16 + 8 * 8 * size * size + 16 + 8 * 8 + 16 + 8 * 3 + 3 for inputs, size in ((6, 4), (8, 2))
    )


def test_the_terms_of_the_loss_are_logged(blobs: Dataset, staged_net: MakeNet) -> None:
    result = distilled(staged_net(), blobs, alpha=0.3, temperature=2.0, beta=0.01, augment="none")
    for epoch in result.training.epochs:
        logged: Mapping[str, float] = epoch.logged
        total = 0.7 * logged["labels"] + 0.3 * 4 * logged["answers"] + 0.01 * logged["features"]
        assert epoch.loss == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("keep_exits", [False, True])
def test_exits_are_no_part_of_the_network(blobs: Dataset, staged_net: MakeNet, keep_exits: bool) -> None:
    model, untouched = staged_net(), staged_net()
    result = distilled(model, blobs, keep_exits=keep_exits)
    assert [(name, type(module)) for name, module in model.named_modules()] == [
        (name, type(module)) for name, module in untouched.named_modules()
    ]
    assert model.state_dict().keys() == untouched.state_dict().keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not model.training
    assert (result.exits is not None) is keep_exits
    if result.exits is not None:
        assert result.exits.layers == ("2", "6")
        assert not result.exits.training


def test_keeping_exits_changes_nothing_else(blobs: Dataset, staged_net: MakeNet) -> None:
    kept, dropped = staged_net(), staged_net()
    assert distilled(kept, blobs, keep_exits=True).counts == distilled(dropped, blobs).counts
    assert state_sha256(kept) == state_sha256(dropped)


def test_hooks_are_gone_after_an_error(blobs: Dataset, staged_net: MakeNet) -> None:
    model = staged_net()

    def kill(point: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        distilled(model, blobs, on_epoch=kill)
    assert not any(module._forward_hooks for module in model.modules())


def test_early_layers_learn_from_the_exits(blobs: Dataset, staged_net: MakeNet) -> None:
    plain, taught = staged_net(), staged_net()
    train(
        plain, blobs, preprocess=blobs.preprocess, epochs=1, batch=16, lr=0.05, augment="shift", precision="float32",
        progress=False,
    )  # fmt: skip
    distilled(taught, blobs, epochs=1)
    assert not torch.allclose(plain.get_parameter("0.weight"), taught.get_parameter("0.weight"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, staged_net: MakeNet, tmp_path: Path, precision: str
) -> None:
    asked = {"precision": precision, "keep_exits": True, "epochs": 3, "mix": "mixup"}
    undisturbed, continued = staged_net(), staged_net()
    whole = distilled(undisturbed, blobs, **asked)

    def kill(point: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        distilled(staged_net(), blobs, state=tmp_path, on_epoch=kill, **asked)
    again = distilled(continued, blobs, state=tmp_path, **asked)
    assert state_sha256(continued) == state_sha256(undisturbed)
    assert whole.exits is not None and again.exits is not None
    assert state_sha256(again.exits) == state_sha256(whole.exits)
    assert again.counts == whole.counts


def test_a_checkpoint_of_other_exits_is_refused(blobs: Dataset, staged_net: MakeNet, tmp_path: Path) -> None:
    distilled(staged_net(), blobs, epochs=1, state=tmp_path)
    with pytest.raises(EdgeLatheError, match=r"differs in .*objective"):
        distilled(staged_net(), blobs, epochs=1, state=tmp_path, exits=["2"])


def test_the_seed_draws_the_exits(blobs: Dataset, staged_net: MakeNet) -> None:
    def first_weight(seed: int) -> Tensor:
        found = distilled(staged_net(), blobs, epochs=1, lr=1e-6, keep_exits=True, seed=seed).exits
        assert found is not None
        return found.get_parameter("classifiers.0.branch.0.weight")

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.allclose(first_weight(1), first_weight(2), rtol=0, atol=1e-2)


def test_zeros_of_a_sparse_network_stay(blobs: Dataset, staged_net: MakeNet) -> None:
    model = staged_net()
    with torch.no_grad():
        model.get_parameter("3.weight")[:4] = 0
    held = HeldZeros(model, {"3.weight": model.get_parameter("3.weight").detach() != 0})
    distilled(model, blobs, constraint=held)
    weight = model.get_parameter("3.weight").detach()
    assert float(weight[:4].abs().max()) == 0
    assert float(weight[4:].abs().min()) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "alpha = 1.5: it must be between 0 and 1"),
        ({"temperature": 0.0}, "temperature = 0.0: it must be above 0"),
        ({"beta": -1.0}, "beta = -1.0: it must be 0 or more"),
        ({"exits": ["7x"]}, 'behind "7x"'),
        ({"epochs": 0}, "epochs = 0"),
    ],
)
def test_impossible_settings_are_refused(
    blobs: Dataset, staged_net: MakeNet, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        distilled(staged_net(), blobs, **settings)
