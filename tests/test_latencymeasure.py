from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from edgelathe import latencymeasure
from edgelathe.latencymeasure import Deployment, deployment_of, latency_against
from edgelathe.recipe import BenchSection, ModelSection, Recipe
from edgelathe.recipe_stages import Qat, Quantize
from torch import nn


def _network(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()  # fmt: skip


class _Clock:
    """Stands for `measure_latency` and the writing of files: a file says how wide its network is, which is its time."""

    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []
        self.written: list[tuple[str, str]] = []

    def measure(self, files: Mapping[str, Path], **settings: Any) -> dict[str, Any]:
        self.measured.append({"files": dict(files), **settings})
        times = {name: int(path.read_text()) for name, path in files.items()}
        ratio = times["network"] / times["whole"]
        return {"network": type("Measured", (), {"ratio": ratio, "median_ms": 0.01})()}

    def write(self, network: nn.Sequential, _: torch.Tensor, path: Path, latency_of: str, target: str) -> Path:
        assert not path.exists()
        self.written.append((latency_of, target))
        path.write_text(str(network[0].out_channels))
        return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(latencymeasure, "measure_latency", clock.measure)
    monkeypatch.setattr(latencymeasure, "write_deployed", clock.write)
    return clock


def test_networks_are_measured_against_the_whole_one(clock: _Clock, tmp_path: Path) -> None:
    lines: list[str] = []
    measure = latency_against(
        _network(8), torch.zeros(2, 3, 6, 6), tmp_path,
        deployment=Deployment("openvino", threads=2, batch=3, target="arm64"),
        latency_of="int8", seconds=0.7, seed=5, say=lines.append,
    )  # fmt: skip
    assert measure(_network(2)) == 2 / 8
    (call,) = clock.measured
    assert (call["reference"], call["runtime"], call["threads"], call["batch"]) == ("whole", "openvino", 2, 3)
    assert (call["seconds"], call["seed"]) == (0.7, 5)
    assert clock.written == [("int8", "arm64")] * 2
    assert lines == ["0.01 ms, 25.0% of the whole network in int8"]


def test_the_whole_network_takes_one_of_itself_and_a_file_is_written_once(clock: _Clock, tmp_path: Path) -> None:
    whole, narrow = _network(8), _network(2)
    measure = latency_against(whole, torch.zeros(2, 3, 6, 6), tmp_path, deployment=Deployment())
    assert measure(whole) == measure(_network(8)) == 1.0
    assert clock.measured == []
    assert measure(narrow) == measure(narrow) == 2 / 8
    assert len(clock.measured) == 2
    assert clock.measured[0]["files"] == clock.measured[1]["files"]
    assert measure(_network(4)) == 4 / 8  # after another network, whose file is still there, is gone
    assert len(clock.written) == 4


def test_a_narrower_int8_file_is_faster_on_this_machine(tmp_path: Path) -> None:
    whole, narrow, example = _network(128), _network(4), torch.randn(2, 3, 48, 48)
    measure = latency_against(
        whole, example, tmp_path, deployment=Deployment(), latency_of="int8", seconds=0.1
    )  # fmt: skip
    assert 0 < measure(narrow) < 0.8
    for number in (0, 1):
        quantized = onnx.load(tmp_path / f"{number}.int8.onnx")
        assert "QuantizeLinear" in {node.op_type for node in quantized.graph.node}


def test_where_a_recipe_would_run() -> None:
    model = ModelSection(source="cifar_resnet8")
    assert deployment_of(Recipe(name="a", model=model)) == Deployment("onnxruntime", 1, 1, "x86-vnni")
    stages = (Qat(do="qat", epochs=1, target="x86-avx2"), Quantize(do="quantize", target="arm64"))
    bench = BenchSection(runtimes=("openvino", "onnxruntime"), threads=(2, 1), batch=4)
    recipe = Recipe(name="a", model=model, stages=stages, bench=bench)
    assert deployment_of(recipe) == Deployment("openvino", 2, 4, "x86-avx2")
