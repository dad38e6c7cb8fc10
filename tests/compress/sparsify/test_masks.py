from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgelathe.compress.sparsify.masks import check_zeros, follow, load_masks, mask_sha256, save_masks, zeros_of
from edgelathe.errors import EdgeLatheError
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn


def network(out: int = 3, inputs: int = 5) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(inputs, out), nn.BatchNorm1d(out))
    nn.init.constant_(model[0].weight, 1.0)
    return model


def mask(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    shape = model.get_parameter("0.weight").shape
    return {"0.weight": torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5}


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 9))
def test_masks_survive_the_disk_at_a_bit_per_weight(out: int, inputs: int, seed: int) -> None:
    model = network(out, inputs)
    masks = mask(model, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.safetensors"
        save_masks(masks, path)
        again = load_masks(path, model)
    assert again.keys() == masks.keys()
    assert again["0.weight"].dtype == torch.bool
    assert torch.equal(again["0.weight"], masks["0.weight"])


def test_the_hash_knows_each_bit() -> None:
    one = torch.tensor([[True, False, True]])
    assert mask_sha256(one) != mask_sha256(~one)
    assert mask_sha256(one) == mask_sha256(one.clone())


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"1.weights": torch.zeros(2, dtype=torch.uint8)}, "the network has no 1.weights"),
        ({"0.weight": torch.zeros(3, dtype=torch.uint8)}, "what it holds for 0.weight is no mask of 15 weights"),
        ({"0.weight": torch.zeros(2)}, "what it holds for 0.weight is no mask of 15 weights"),
    ],
)
def test_masks_of_another_network_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], why: str) -> None:
    path = tmp_path / "masks.safetensors"
    save_file(tensors, path)
    with pytest.raises(EdgeLatheError) as caught:
        load_masks(path, network())
    assert str(caught.value) == f"Cannot use the masks {path}: {why}; sparsify the network again."


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        load_masks(path, network())
    path.write_bytes(b"\x08")
    with pytest.raises(EdgeLatheError, match="it is no safetensors file"):
        load_masks(path, network())


def test_zeros_of_weights_count_and_those_of_biases_and_norms_do_not(conv_net: Callable[[], nn.Module]) -> None:
    model = conv_net()
    with torch.no_grad():
        model.get_parameter("3.weight")[0, 0, 0, 0] = 0
        model.get_parameter("6.bias").zero_()
        model.get_parameter("1.weight").zero_()
    zeros = zeros_of(model)
    assert list(zeros) == ["3.weight"]
    assert int((~zeros["3.weight"]).sum()) == 1


def test_masks_follow_a_network_that_lost_channels_or_layers() -> None:
    wide, narrow = network(3, 5), network(2, 5)
    masks = {**mask(wide), "gone.weight": torch.ones(1, 1, dtype=torch.bool)}
    assert torch.equal(follow(masks, wide)["0.weight"], masks["0.weight"])
    with torch.no_grad():
        narrow[0].weight[1, 3] = 0
    followed = follow(masks, narrow)
    assert list(followed) == ["0.weight"]
    assert torch.equal(followed["0.weight"], narrow[0].weight != 0)


def test_a_zero_that_came_alive_is_an_error() -> None:
    model = network()
    masks = mask(model)
    lost = int((~masks["0.weight"]).sum())
    with pytest.raises(EdgeLatheError) as caught:
        check_zeros(masks, model, "at export")
    said = f"{lost} weights of 0.weight that were pruned are no longer zero at export;"
    assert str(caught.value).startswith(f"Cannot go on with the sparse network: {said}")
    with torch.no_grad():
        model[0].weight.masked_fill_(~masks["0.weight"], 0)
    check_zeros(masks, model, "at export")
