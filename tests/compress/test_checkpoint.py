from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, load_checkpoint, save_checkpoint, state_sha256
from edgelathe.errors import EdgeLatheError
from torch import nn

SETTINGS = {"lr": 0.1, "mean": [0.5], "objective": {"loss": "kd"}}
EPOCHS = (Epoch(1, 1.25, 0.5, None, 100.0),)


def _stepped(model: nn.Module) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer


def test_round_trip_keeps_weights_momentum_and_layout(small_net: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = small_net().to(memory_format=torch.channels_last)
    optimizer = _stepped(model)
    save_checkpoint(tmp_path / "c", model, optimizer, SETTINGS, EPOCHS)
    other = small_net().to(memory_format=torch.channels_last)
    fresh = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    assert load_checkpoint(tmp_path / "c", other, fresh, SETTINGS) == EPOCHS
    assert state_sha256(other) == state_sha256(model)
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert mine.stride() == theirs.stride()
        kept = fresh.state[mine]["momentum_buffer"]
        assert torch.equal(kept, optimizer.state[theirs]["momentum_buffer"])


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "no header"])
def test_damaged_file_is_one_sentence(small_net: Callable[[], nn.Module], tmp_path: Path, damage: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "checkpoint.safetensors"
    model = small_net()
    save_checkpoint(path, model, _stepped(model), SETTINGS, EPOCHS)
    whole = path.read_bytes()
    if damage == "no header":
        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"x" * 99, "empty": b""}[damage])
    before = state_sha256(model)
    with pytest.raises(EdgeLatheError) as caught:
        load_checkpoint(path, model, torch.optim.SGD(model.parameters(), lr=0.1), SETTINGS)
    assert str(caught.value) == (
        f"Cannot read the training checkpoint {path}: it is not whole; delete its folder to start this training afresh."
    )
    assert state_sha256(model) == before


def test_other_shapes_are_refused_and_nothing_is_loaded(small_net: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = small_net()
    save_checkpoint(tmp_path / "c", model, _stepped(model), SETTINGS, EPOCHS)
    other = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = state_sha256(other)
    with pytest.raises(EdgeLatheError, match="differs in the shapes of the network"):
        load_checkpoint(tmp_path / "c", other, torch.optim.SGD(other.parameters(), lr=0.1), SETTINGS)
    assert state_sha256(other) == before


def test_full_disk_leaves_the_checkpoint_of_the_epoch_before(
    small_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "c"
    model = small_net()
    optimizer = _stepped(model)
    save_checkpoint(path, model, optimizer, SETTINGS, EPOCHS)
    before = path.read_bytes()
    full = OSError(28, "No space left on device")
    with (
        mock.patch("edgelathe.files._flush", side_effect=full),
        pytest.raises(EdgeLatheError, match=r"Cannot write the training checkpoint .*: No space left on device"),
    ):
        save_checkpoint(path, model, optimizer, SETTINGS, EPOCHS * 2)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_hash_ignores_memory_layout_and_sees_every_value(small_net: Callable[[], nn.Module]) -> None:
    model = small_net()
    before = state_sha256(model)
    assert state_sha256(small_net().to(memory_format=torch.channels_last)) == before
    model[1].running_mean[3] += 1e-6
    assert state_sha256(model) != before
