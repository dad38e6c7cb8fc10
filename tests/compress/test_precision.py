from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from edgelathe.compress import precision
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.errors import EdgeLatheError
from torch import nn

INPUTS, LABELS = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])


def _choose(model: nn.Module, folder: Path | None, **asked: object) -> precision.Choice:
    settings = {"precision": "auto", "compiled": False, "images": 1000, "threads": 1, **asked}
    return precision.choose(model, INPUTS, LABELS, folder=folder, **settings)  # type: ignore[arg-type]


def _timings(**speeds: float) -> mock._patch[mock.MagicMock]:
    return mock.patch.object(
        precision, "_speeds", side_effect=lambda steps, batch: {name: speeds[name] for name in steps}
    )


@pytest.mark.parametrize(
    ("float32", "bf16", "wanted"), [(100, 200, "bf16"), (100, 110, "float32"), (100, 50, "float32")]
)
def test_bf16_must_be_clearly_faster(
    small_net: Callable[[], nn.Module], float32: float, bf16: float, wanted: str
) -> None:
    with _timings(float32=float32, bf16=bf16):
        choice = _choose(small_net(), None)
    assert choice.precision == wanted
    assert choice.images_per_second == {"float32": float32, "bf16": bf16}


def test_measuring_leaves_the_network_alone(small_net: Callable[[], nn.Module]) -> None:
    model = small_net()
    before = state_sha256(model)
    choice = _choose(model, None)
    assert all(speed > 0 for speed in choice.images_per_second.values())
    assert state_sha256(model) == before


def test_given_format_is_not_measured(small_net: Callable[[], nn.Module], tmp_path: Path) -> None:
    with mock.patch.object(precision, "_speeds", side_effect=AssertionError):
        assert _choose(small_net(), tmp_path, precision="bf16").precision == "bf16"
    assert json.loads((tmp_path / "choice.json").read_text())["threads"] == 1


def test_written_choice_answers_only_the_same_request(small_net: Callable[[], nn.Module], tmp_path: Path) -> None:
    with _timings(float32=1.0, bf16=9.0):
        assert _choose(small_net(), tmp_path).precision == "bf16"
    with mock.patch.object(precision, "_speeds", side_effect=AssertionError):
        assert _choose(small_net(), tmp_path, threads=2) == _choose(small_net(), tmp_path)
        assert _choose(small_net(), tmp_path, precision="float32").precision == "float32"


@pytest.mark.parametrize(("compiled", "images", "wanted"), [(500.0, 10**9, True), (90.0, 10**9, False)])
def test_compiling_must_pay(small_net: Callable[[], nn.Module], compiled: float, images: int, wanted: bool) -> None:
    with _timings(float32=100.0, compiled=compiled):
        choice = _choose(small_net(), None, precision="float32", compiled="auto", images=images)
    assert choice.compiled is wanted
    assert choice.images_per_second["float32 compiled"] == compiled


def test_without_a_compiler_nothing_is_compiled(small_net: Callable[[], nn.Module]) -> None:
    with mock.patch.object(torch, "compile", side_effect=RuntimeError("no compiler")):
        choice = _choose(small_net(), None, precision="float32", compiled="auto")
    assert choice.compiled is False


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"precision": "int4", "compiled": false, "threads": 1, "images_per_second": {}, "asked": {}}'],
)
def test_damaged_choice_is_one_sentence(small_net: Callable[[], nn.Module], tmp_path: Path, text: str) -> None:
    (tmp_path / "choice.json").write_text(text)
    with pytest.raises(EdgeLatheError, match=r"Cannot read the training choice .*choice\.json: it "):
        _choose(small_net(), tmp_path)
