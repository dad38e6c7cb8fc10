from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgelathe
import numpy as np
import pytest
from edgelathe.bench.records import Latency
from edgelathe.compress.quantize.audit import FileAudit, FloatNode, Survivor
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.explanation import KindTime, verdict


def latency(ratio: float, low: float, high: float) -> Latency:
    facts = {"runtime": "onnxruntime", "threads": 1, "batch": 1, "median_ms": 1.0, "q1_ms": 1.0, "q3_ms": 1.0}
    facts |= {"runs": 9, "bursts_ms": (1.0,), "reference": "float", "load_ms": 1.0, "first_ms": 1.0}
    return Latency.model_validate(facts | {"ratio": ratio, "ratio_low": low, "ratio_high": high})


def kind(name: str, before: float, after: float, share: float) -> KindTime:
    return KindTime(kind=name, float_us=before, int8_us=after, int8_share=share)


def audited(**changed: Any) -> FileAudit:
    facts: dict[str, Any] = {
        "runtime": "onnxruntime 1",
        "weighted": {"Conv": 5},
        "floats": (),
        "requantized": (),
        "survivors": (),
        "dynamic": False,
        "signed": False,
        "full_range": True,
    }
    return FileAudit(**facts | changed)


CONVOLUTIONS = kind("convolution", 900.0, 300.0, 0.9)
VNNI = ("avx2", "avx512_vnni")


def test_a_fast_file_is_said_to_be_fast() -> None:
    said = verdict(latency(0.5, 0.48, 0.52), [CONVOLUTIONS], audited(), VNNI, "x86_64")
    assert said == "int8 takes 0.50 x of float's time on this processor (avx512_vnni) (0.48 to 0.52)."


def test_what_takes_the_time_is_named() -> None:
    kinds = [CONVOLUTIONS, kind("SiLU", 190.0, 280.0, 0.471), kind("sum", 1.0, 1.0, 0.02)]
    said = verdict(latency(0.8, 0.78, 0.82), kinds, audited(), VNNI, "x86_64")
    assert said.endswith(
        " 47% of the int8 time is SiLU (0.28 ms against 0.19 ms in float), slower than in float; the stage"
        " replace-activations puts a cheaper activation in its place."
    )


def test_a_slow_file_has_its_causes() -> None:
    floats = (FloatNode("c1", "Conv", "its weights are stored as float"), FloatNode("c2", "Conv", "other"))
    survivors = (Survivor("QuantizeLinear", "q", "Conv c1", ("Conv c2",)),)
    kinds = [CONVOLUTIONS, kind("conversion", 0.0, 400.0, 0.3)]
    said = verdict(
        latency(1.3, 1.2, 1.4), kinds, audited(floats=floats, survivors=survivors, signed=True), ("avx2",), "x86_64"
    )
    assert said == (
        "int8 is slower: it takes 1.30 x of float's time on this processor without VNNI (1.20 to 1.40), because its"
        " activations are int8, for which x86 has no fast kernels (quantize them to uint8); int8 products take three"
        " instructions here instead of one; 2 of 5 convolutions run in float (first c1: its weights are stored as"
        " float); 30% of its time converts between float and int8 (1 conversions inside the graph). Keep the float"
        " file for this processor."
    )


def test_an_undecided_file_is_not_called_slow() -> None:
    said = verdict(latency(0.99, 0.95, 1.03), [CONVOLUTIONS], audited(dynamic=True), (), "aarch64")
    assert said.startswith("int8 is not clearly faster: it takes 0.99 x of float's time on this processor (0.95 to")
    assert "its ranges are computed at run time" in said
    assert "Keep" not in said


def test_signed_activations_are_fine_on_arm() -> None:
    said = verdict(latency(0.5, 0.4, 0.6), [CONVOLUTIONS], audited(signed=True), ("asimddp",), "aarch64")
    assert "int8, for which" not in said


@pytest.fixture(scope="module")
def pair(resnet_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A float file and an int8 file that keeps one convolution in float."""
    model, output = resnet_file(8), tmp_path_factory.mktemp("explain") / "int8.onnx"
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    quantize(model, output, images, keep_float=["conv0"])
    return model, output


def test_both_files_are_measured_profiled_and_audited(pair: tuple[Path, Path]) -> None:
    found = edgelathe.explain(*pair, runs=4, seconds=0.1)
    assert (found.float_file, found.int8_file) == (pair[0].name, "int8.onnx")
    convolution = next(kind for kind in found.kinds if kind.kind == "convolution")
    assert min(convolution.float_us, convolution.int8_us) > 0
    assert sum(kind.int8_share for kind in found.kinds) == pytest.approx(1.0)
    assert [kind.int8_us for kind in found.kinds] == sorted((kind.int8_us for kind in found.kinds), reverse=True)
    assert "QLinearConv" in found.int8_operators
    assert "QLinearConv" not in found.float_operators
    assert found.audit.weighted["Conv"] >= 7
    (left,) = found.audit.floats
    assert (left.op, left.reason) == ("Conv", "its weights are stored as float")
    assert f"convolutions run in float (first {left.name}: its weights are stored as float)" in found.verdict


def test_the_command_prints_the_table_and_the_verdict(pair: tuple[Path, Path], command: Callable[..., Any]) -> None:
    ended = command("explain", *pair, "--runs", 4, "--seconds", 0.1)
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(ended.out.split())
    for words in ("convolution", "conversion", "slowest in int8", "Conv its weights are stored as float"):
        assert words in text
    assert "x of float's time on this processor" in text
    as_json = command("explain", *pair, "--runs", 4, "--seconds", 0.1, "--json")
    assert json.loads(as_json.out)["audit"]["floats"][0]["op"] == "Conv"


def test_missing_files_are_refused(pair: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path) -> None:
    assert "there is no such file" in refused("explain", tmp_path / "none.onnx", pair[1])
    assert "there is no such file" in refused("explain", pair[0], tmp_path / "none.onnx")
