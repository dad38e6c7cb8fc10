"""What a process may use is what the processor tells it, and files that need more are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest
from edgelathe.bench import processor
from edgelathe.bench.accuracy import predict
from edgelathe.bench.processor import confirmed, doubt_about
from edgelathe.bench.runtimes import onnxruntime

XEON = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
HASWELL = {"AVX2": True, "AVX512F": False, "AVX512VNNI": False}


def test_flags_that_nothing_contradicts_stand() -> None:
    assert confirmed(XEON, {}) == XEON
    assert confirmed(XEON, {"AVX2": True, "AVX512F": True, "AVX512VNNI": True}) == XEON
    assert confirmed(("asimd", "asimddp"), HASWELL) == ("asimd", "asimddp")


def test_an_emulated_haswell_on_a_xeon_is_a_haswell() -> None:
    assert confirmed(XEON, HASWELL) == ("avx2",)


@pytest.mark.parametrize("flags", [("avx2", "avx512_vnni"), ("avx2", "avx_vnni"), ("amx_int8",)])
def test_a_file_for_vnni_is_right_where_there_is_vnni(flags: tuple[str, ...]) -> None:
    assert doubt_about("x86-vnni mse per-channel", flags, "x86_64") is None


def test_a_file_for_vnni_is_wrong_on_a_haswell() -> None:
    sentence = doubt_about("x86-vnni mse per-channel", ("avx2",), "x86_64")
    assert sentence is not None
    assert "has no VNNI" in sentence
    assert sentence.endswith("quantize it for x86-avx2")


@pytest.mark.parametrize(
    ("quantized", "machine"),
    [("x86-avx2 mse per-channel", "x86_64"), (None, "x86_64"), ("", "x86_64"), ("x86-vnni mse", "aarch64")],
)
def test_other_files_and_processors_are_no_matter(quantized: str | None, machine: str) -> None:
    assert doubt_about(quantized, ("avx2",), machine) is None


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert doubt_about("x86-vnni mse per-channel", (), "x86_64") is None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[N,3,1,1] x) => (float[N,3] y) { y = Flatten(x) }'
    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, {"edgelathe.quantized": "x86-vnni mse per-channel"})
    onnx.save(model, tmp_path / "int8.onnx")
    return tmp_path / "int8.onnx"


def test_the_runtime_and_the_accuracy_probe_say_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "usable_flags", lambda: ("avx2",))
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    assert len(onnxruntime.load(file, 1).doubts) == 1
    images = np.zeros((2, 1, 1, 3), np.uint8)
    with pytest.warns(UserWarning, match="quantized for x86-vnni and this processor has no VNNI"):
        predict(file, images, lambda batch: batch.transpose(0, 3, 1, 2).astype(np.float32))


def test_a_suited_processor_hears_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "usable_flags", lambda: ("avx2", "avx512_vnni"))
    assert onnxruntime.load(file, 1).doubts == ()
