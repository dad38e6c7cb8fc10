from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.objective import CrossEntropy
from edgelathe.compress.penalty import Penalised, penalised
from edgelathe.compress.train import train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Module]


class Stream(nn.Module):
    """A stream of two channels that two convolutions make, three channels inside, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)
        self.inner, self.bn1 = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.outer = nn.Conv2d(3, 2, 1)
        self.up = nn.ConvTranspose2d(2, 4, 1)
        self.fc = nn.Linear(4, 3)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn0(self.stem(x)))
        x = x + self.outer(F.relu(self.bn1(self.inner(x))))
        return self.fc(F.relu(self.up(x)).mean(dim=(2, 3)))


def _penalty(model: nn.Module, sparsity: Any, strength: float = 1.0) -> Penalised:
    return penalised(CrossEntropy(), model, torch.zeros(1, 3, 8, 8), sparsity, strength)


def test_penalties_by_hand() -> None:
    model = Stream()
    lasso, scales = _penalty(model, "group-lasso"), _penalty(model, "bn-scale")
    with torch.no_grad():
        model.stem.weight[0, :, 0, 0] = torch.tensor([1.0, 2.0, 2.0])  # channel 0 of the stream: 1 + 4 + 4
        model.bn0.weight[0] = -4.0  # + 16
        model.outer.weight[0, 1, 0, 0] = 3.0  # + 9
        model.outer.bias[0] = 15.0  # + 225, whose root with the rest of 34 is not whole
        model.outer.bias[1] = -2.0  # channel 1: 4
        model.inner.bias[2] = 0.6  # channel 2 inside: 0.36 + 0.64
        model.bn1.bias[2] = 0.8
        model.bn1.weight[0] = 0.5  # channel 0 inside: 0.25
        model.up.weight[1, 3, 0, 0] = -7.0  # channel 3 of the transposed convolution: 49
    assert lasso.penalty().item() == pytest.approx(259**0.5 + 2.0 + 1.0 + 0.5 + 7.0, abs=1e-4)
    assert scales.penalty().item() == pytest.approx(4.5, abs=1e-6)
    scales.penalty().backward()
    assert model.bn0.weight.grad is not None
    assert model.bn0.weight.grad.tolist() == [-1.0, 0.0]
    assert model.stem.weight.grad is None


def test_the_pull_has_one_strength_and_none_on_what_is_zero() -> None:
    model = Stream()
    lasso = _penalty(model, "group-lasso")
    with torch.no_grad():
        model.stem.weight[0, :, 0, 0] = torch.tensor([30.0, 0.0, 40.0])
        model.stem.weight[1, :, 0, 0] = torch.tensor([0.0, -1e-3, 0.0])
    lasso.penalty().backward()
    assert model.stem.weight.grad is not None
    pull = model.stem.weight.grad.flatten(1)
    assert torch.allclose(pull, torch.tensor([[0.6, 0.0, 0.8], [0.0, -1.0, 0.0]]), rtol=0, atol=1e-5)
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in (model.inner.weight, model.up.weight)
               if parameter.grad is not None)  # fmt: skip
    assert model.fc.weight.grad is None, "the network's outputs are not cut, so nothing pulls at them"


def _net_with_weak_channels() -> nn.Module:
    """Of eight channels, the last four have small filters and scales."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    with torch.no_grad():
        model[0].weight[4:] *= 0.05  # type: ignore[index, operator]
        model[1].weight[4:] = 0.05  # type: ignore[index, operator]
    return model


def _train(model: nn.Module, data: Dataset, **settings: Any) -> None:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 8, "batch": 16, "lr": 0.02, "weight_decay": 0.0,
        "precision": "float32", "progress": False, "seed": 3, "threads": 1,
    }  # fmt: skip
    train(model, data, **{**defaults, **settings})


def _lengths(model: nn.Module) -> Tensor:
    filters, norm = model[0].weight.detach().flatten(1), model[1]  # type: ignore[index, union-attr, operator]
    return torch.cat([filters, norm.weight.detach()[:, None], norm.bias.detach()[:, None]], dim=1).norm(dim=1)


def test_group_lasso_shrinks_weak_channels_more_than_training_without(blobs: Dataset) -> None:
    plain, pulled = _net_with_weak_channels(), _net_with_weak_channels()
    _train(plain, blobs)
    _train(pulled, blobs, sparsity="group-lasso", sparsity_strength=0.05)
    share = _lengths(pulled) / _lengths(plain)
    assert float(share[4:].mean()) < 0.5
    assert float(share[:4].min()) > 0.8


def test_bn_scale_shrinks_small_scales_more_than_training_without(blobs: Dataset) -> None:
    plain, pulled = _net_with_weak_channels(), _net_with_weak_channels()
    _train(plain, blobs)
    _train(pulled, blobs, sparsity="bn-scale", sparsity_strength=0.05)
    plain_scale, scale = (model[1].weight.detach().abs() for model in (plain, pulled))  # type: ignore[index, union-attr, operator]
    assert float((scale / plain_scale)[4:].mean()) < 0.5
    assert float((scale / plain_scale)[:4].min()) > 0.8


@pytest.mark.parametrize("sparsity", ["group-lasso", "bn-scale"])
def test_killed_and_continued_ends_with_the_same_bytes(blobs: Dataset, tmp_path: Path, sparsity: str) -> None:
    class Killed(BaseException):
        pass

    def kill(_: Epoch) -> None:
        raise Killed

    keys: dict[str, Any] = {"sparsity": sparsity, "sparsity_strength": 0.01}
    undisturbed, continued = _net_with_weak_channels(), _net_with_weak_channels()
    _train(undisturbed, blobs, **keys)
    with pytest.raises(Killed):
        _train(_net_with_weak_channels(), blobs, state=tmp_path, on_epoch=kill, **keys)
    _train(continued, blobs, state=tmp_path, **keys)
    assert state_sha256(continued) == state_sha256(undisturbed)
    with pytest.raises(EdgeLatheError, match="belongs to a training that differs in objective; restore"):
        _train(_net_with_weak_channels(), blobs, state=tmp_path, **{**keys, "sparsity_strength": 0.02})


def test_none_is_the_training_without_and_its_strength_says_nothing(blobs: Dataset, small_net: MakeNet) -> None:
    plain, none = small_net(), small_net()
    _train(plain, blobs, epochs=1)
    _train(none, blobs, epochs=1, sparsity="none", sparsity_strength=1.0)
    assert state_sha256(plain) == state_sha256(none)


def test_distillation_takes_the_penalty_too(blobs: Dataset, small_net: MakeNet) -> None:
    lengths = []
    for strength in (0.0, 0.05):
        model = _net_with_weak_channels()
        distill(
            model, small_net(), blobs, preprocess=blobs.preprocess, teacher_preprocess=blobs.preprocess, epochs=2,
            batch=16, lr=0.02, precision="float32", progress=False, threads=1, sparsity="group-lasso",
            sparsity_strength=strength,
        )  # fmt: skip
        lengths.append(float(_lengths(model)[4:].mean()))
    assert lengths[1] < 0.8 * lengths[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": "lasso"}, 'Unknown sparsity "lasso": did you mean "group-lasso"?'),
        (
            {"sparsity": "bn-scale", "sparsity_strength": -1.0},
            "Cannot use sparsity_strength = -1.0: it must be 0 or more.",
        ),
    ],
)
def test_impossible_settings(blobs: Dataset, small_net: MakeNet, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _train(small_net(), blobs, **settings)
    assert str(caught.value) == message


def test_networks_that_nothing_can_be_pulled_at(blobs: Dataset) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(EdgeLatheError) as caught:
        _train(plain, blobs, sparsity="bn-scale")
    assert str(caught.value) == (
        'Cannot train with sparsity = "bn-scale": no channels that can be cut have a batch norm with a scale; '
        'choose "group-lasso".'
    )
    with pytest.raises(EdgeLatheError, match="no group of channels may be cut"):
        _train(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), blobs, sparsity="group-lasso")
