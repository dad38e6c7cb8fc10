from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.batchnorm import likeliest_augment, reestimate_batch_norm
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.objective import as_tensor, network_inputs
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import nn


def test_statistics_are_those_of_the_images(blobs: Dataset, small_net: Callable[[], nn.Module]) -> None:
    model = small_net()
    model[1].running_mean.fill_(50)
    assert reestimate_batch_norm(model, blobs, blobs.preprocess, images=96, batch=96) == 1
    assert blobs.train is not None
    features = model[0](network_inputs(as_tensor(blobs.train.x), blobs.preprocess))
    assert torch.allclose(model[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=0, atol=1e-5)
    assert torch.allclose(model[1].running_var, features.var(dim=(0, 2, 3)), rtol=1e-4, atol=0)


def test_batches_count_alike_and_settings_come_back(blobs: Dataset, small_net: Callable[[], nn.Module]) -> None:
    model = small_net().train()
    model[1].momentum = 0.25
    reestimate_batch_norm(model, blobs, blobs.preprocess, images=96, batch=24, seed=1)
    assert blobs.train is not None
    features = model[0](network_inputs(as_tensor(blobs.train.x), blobs.preprocess))
    assert torch.allclose(model[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=0, atol=1e-5)
    assert model[1].momentum == 0.25
    assert all(module.training for module in model.modules())


def test_same_seed_same_bytes(blobs: Dataset, small_net: Callable[[], nn.Module]) -> None:
    hashes = []
    for seed in (1, 1, 2):
        model = small_net()
        reestimate_batch_norm(model, blobs, blobs.preprocess, images=40, batch=20, seed=seed)
        hashes.append(state_sha256(model))
    assert hashes[0] == hashes[1] != hashes[2]


def test_nothing_to_do_and_nothing_to_do_it_with(blobs: Dataset, small_net: Callable[[], nn.Module]) -> None:
    assert reestimate_batch_norm(nn.Conv2d(3, 3, 1), blobs, blobs.preprocess) == 0
    with pytest.raises(EdgeLatheError, match="Cannot re-estimate batch-norm statistics on blobs"):
        reestimate_batch_norm(small_net(), replace(blobs, train=None), blobs.preprocess)


@pytest.mark.parametrize("kind", ["none", "shift"])
def test_statistics_remember_how_images_were_augmented(
    kind: str, blobs: Dataset, small_net: Callable[[], nn.Module]
) -> None:
    model = small_net()
    reestimate_batch_norm(model, blobs, blobs.preprocess, images=96, batch=24, augmented=kind, seed=3)  # type: ignore[arg-type]
    before = state_sha256(model)
    found = likeliest_augment(model, blobs, blobs.preprocess, seed=4)
    assert (found == "none") is (kind == "none")
    assert state_sha256(model) == before


def test_a_network_without_batch_norms_remembers_nothing(blobs: Dataset) -> None:
    assert likeliest_augment(nn.Conv2d(3, 3, 1), blobs, blobs.preprocess) == "none"
