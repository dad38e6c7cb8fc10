"""What the file of each target holds, and that it computes what the float file does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.placing.targets import TARGETS
from edgelathe.compress.quantize.quantize import quantize

from ..conftest import decibels, images, model_from_text, run

EVERYTHING = """agraph (float[N,3,8,8] x) => (float[N,5] y) {
  a = Conv <pads = [1,1,1,1]> (x, w0, b0)
  r = Relu (a)
  d = Conv <pads = [1,1,1,1], group = 8> (r, w1)
  s = Sigmoid (d)
  h = Mul (d, s)
  p = GlobalAveragePool (h)
  e = Conv (p, w2, b2)
  z = Sigmoid (e)
  k = Mul (z, h)
  c = Conv (k, w3)
  t = Add (c, r)
  j = Concat <axis = 1> (t, c)
  m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (j)
  q = AveragePool <kernel_shape = [2,2], strides = [2,2]> (m)
  o = GlobalAveragePool (q)
  f = Flatten (o)
  y = Gemm <transB = 1> (f, w4, b4)
}"""
WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 8, 1, 1),
    "w4": (5, 16), "b4": (5,),
}  # fmt: skip


class File:
    """The stored arrays of a quantized file, and who reads and writes what in it."""

    def __init__(self, path: Path) -> None:
        self.graph = onnx.load(path).graph
        self.stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.producers = {output: node for node in self.graph.node for output in node.output}

    def activations(self) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type == "QuantizeLinear"]

    def weights(self) -> list[np.ndarray]:
        return [array for name, array in self.stored.items() if name.endswith("weight_codes")]

    def codes_of(self, value: str) -> tuple[float, int]:
        """(scale, zero point) that a float value is read with."""
        node = next(node for node in self.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == value)
        return float(self.stored[node.input[1]]), int(self.stored[node.input[2]])


@pytest.fixture
def float_file(save) -> Path:  # type: ignore[no-untyped-def]
    return save(model_from_text(EVERYTHING, WEIGHTS, seed=0))


def written(float_file: Path, tmp_path: Path, target: str) -> tuple[File, float]:
    output = tmp_path / f"{target}.onnx"
    quantize(float_file, output, images(64, (3, 8, 8), seed=1), target=target)
    onnx.checker.check_model(str(output), full_check=True)
    assert {entry.domain for entry in onnx.load(output).opset_import} <= {"", "ai.onnx"}
    x = images(32, (3, 8, 8), seed=2)
    return File(output), decibels(run(float_file, x), run(output, x))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_computes_what_the_float_file_does(target: str, float_file: Path, tmp_path: Path) -> None:
    file, signal = written(float_file, tmp_path, target)
    assert signal > 26.0
    for node in file.activations():
        assert file.stored[node.input[2]].dtype == TARGETS[target].code_type
    for codes in file.weights():
        assert codes.dtype == np.int8
        assert np.abs(codes.astype(int)).max() <= TARGETS[target].weight_max


def test_avx2_loses_less_than_limiting_every_weight_would(float_file: Path, tmp_path: Path) -> None:
    file, _ = written(float_file, tmp_path, "x86-avx2")
    largest = [np.sort(np.abs(codes.astype(int)).reshape(len(codes), -1), axis=1) for codes in file.weights()]
    assert max(rows.max() for rows in largest) > 64
    for codes in file.weights():
        rows = np.sort(codes.astype(int).reshape(len(codes), -1), axis=1)
        assert (rows[:, -1] + rows[:, -2]).max() <= 128
        assert (-rows[:, 0] - rows[:, 1]).max() <= 128


def test_openvino_sees_no_conversion_between_a_convolution_and_its_activation(float_file: Path, tmp_path: Path) -> None:
    file, _ = written(float_file, tmp_path, "openvino")
    for node in file.graph.node:
        if node.op_type == "Sigmoid":
            assert file.producers[node.input[0]].op_type == "Conv"
    assert all(file.stored[node.input[2]].dtype == np.uint8 for node in file.activations())


def test_litert_follows_its_specification(float_file: Path, tmp_path: Path) -> None:
    file, _ = written(float_file, tmp_path, "litert")
    for node in file.graph.node:
        if node.op_type == "Sigmoid":
            assert file.codes_of(node.output[0]) == (1 / 256, -128)
        if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"):
            read = file.producers[node.input[0]]
            assert read.op_type == "DequantizeLinear"
            scale, zero_point = file.stored[read.input[1]], file.stored[read.input[2]]
            assert file.codes_of(node.output[0]) == (float(scale), int(zero_point))
    assert not any(array.dtype == np.uint8 for array in file.stored.values())
    result = next(node for node in file.graph.node if "y" in node.output)
    assert result.op_type == "DequantizeLinear"


def test_signed_and_unsigned_files_compute_the_same(float_file: Path, tmp_path: Path) -> None:
    x = images(32, (3, 8, 8), seed=2)
    for target in ("x86-vnni", "arm64"):
        written(float_file, tmp_path, target)
    assert decibels(run(tmp_path / "x86-vnni.onnx", x), run(tmp_path / "arm64.onnx", x)) > 45.0
