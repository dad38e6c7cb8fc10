from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, load_checkpoint, state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.sparsify.hold import HeldZeros, hold_zeros
from edgelathe.compress.sparsify.masks import zeros_of
from edgelathe.compress.sparsify.sparsify import sparsify
from edgelathe.compress.train import train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Sequential]


class Killed(BaseException):
    pass


@pytest.fixture
def sparse_net(conv_net: MakeNet, example: Tensor) -> Callable[[], nn.Module]:
    return lambda: sparsify(conv_net(), example, pattern="2:4")[0]


def fit(model: nn.Module, data: Dataset, **settings: Any) -> Any:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 2, "batch": 16, "lr": 0.05, "precision": "float32", "threads": 1,
        "progress": False,
    }  # fmt: skip
    return train(model, data, **{**defaults, **settings})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(mask, other[name]) for name, mask in one.items())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_zeros_stay_and_the_others_learn(blobs: Dataset, sparse_net: MakeNet, precision: str) -> None:
    model = sparse_net()
    before, start = zeros_of(model), model.get_parameter("3.weight").detach().clone()
    fit(model, blobs, constraint=hold_zeros(model), precision=precision)
    assert same(zeros_of(model), before)
    moved = model.get_parameter("3.weight").detach() != start
    assert torch.equal(moved, before["3.weight"])


def test_without_it_they_come_alive_and_a_stale_constraint_says_so(blobs: Dataset, sparse_net: MakeNet) -> None:
    model = sparse_net()
    held = hold_zeros(model)
    fit(model, blobs, epochs=1)
    assert not zeros_of(model)
    with pytest.raises(EdgeLatheError, match=r"that were pruned are no longer zero after training"):
        held.check()


def test_momentum_does_not_leak(sparse_net: MakeNet) -> None:
    model = sparse_net()
    held = hold_zeros(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        model.eval()(torch.ones(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        held.after_step(0.0, optimizer)
    weight = model.get_parameter("3.weight")
    momentum = optimizer.state[weight]["momentum_buffer"]
    gone = ~zeros_of(model)["3.weight"]
    assert int(gone.sum()) == 576
    assert not bool(momentum[gone].any())
    assert bool(momentum[~gone].any())


def test_distillation_holds_them_too(blobs: Dataset, conv_net: MakeNet, sparse_net: MakeNet) -> None:
    model = sparse_net()
    before = zeros_of(model)
    distill(
        model, conv_net(), blobs, preprocess=blobs.preprocess, teacher_preprocess=blobs.preprocess, epochs=1,
        batch=16, precision="float32", threads=1, constraint=hold_zeros(model), progress=False,
    )  # fmt: skip
    assert same(zeros_of(model), before)


def test_a_killed_training_ends_with_the_same_bytes(blobs: Dataset, sparse_net: MakeNet, tmp_path: Path) -> None:
    def kill(epoch: Epoch) -> None:
        raise Killed

    undisturbed, killed, resumed = sparse_net(), sparse_net(), sparse_net()
    fit(undisturbed, blobs, constraint=hold_zeros(undisturbed))
    with pytest.raises(Killed):
        fit(killed, blobs, constraint=hold_zeros(killed), state=tmp_path, on_epoch=kill)
    fit(resumed, blobs, constraint=hold_zeros(resumed), state=tmp_path)
    assert state_sha256(resumed) == state_sha256(undisturbed)


def test_a_checkpoint_of_other_masks_is_refused(blobs: Dataset, sparse_net: MakeNet, tmp_path: Path) -> None:
    model, other = sparse_net(), sparse_net()
    fit(model, blobs, epochs=1, constraint=hold_zeros(model), state=tmp_path)
    fewer = {"3.weight": zeros_of(other)["3.weight"]}
    with pytest.raises(EdgeLatheError, match="it belongs to a training that differs in constraint"):
        fit(other, blobs, epochs=1, constraint=HeldZeros(other, fewer), state=tmp_path)


def test_what_a_constraint_keeps_beside_the_network_must_be_in_the_checkpoint(
    blobs: Dataset, sparse_net: MakeNet, tmp_path: Path
) -> None:
    model = sparse_net()
    fit(model, blobs, epochs=1, state=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(EdgeLatheError, match="Cannot continue from "):
        load_checkpoint(path, model, optimizer, {}, {"scores": torch.zeros(2)})
