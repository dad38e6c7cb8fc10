from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.graph import inspect_graph
from edgelathe.compress.quantize.quantize import quantize

NETWORK = """<ir_version: 8, opset_import: ["" : 18]>
agraph (float[N,3,16,16] x) => (float[N,10] y) {
  c = Conv <pads = [PAD,PAD,PAD,PAD], strides = [2,2]> (x, w0)
  r = Relu (c)
  starts = Constant <value = int64[2] {0, 0}> ()
  ends = Constant <value = int64[2] {8, 8}> ()
  axes = Constant <value = int64[2] {2, 3}> ()
  steps = Constant <value = int64[2] {2, 2}> ()
  s = Slice (r, starts, ends, axes, steps)
  amounts = Constant <value = int64[8] {0, 1, 0, 0, 0, 3, 0, 0}> ()
  p = Pad (s, amounts)
  d = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w1)
  a = Add (d, p)
  g = GlobalAveragePool (a)
  f = Flatten (g)
  y = Gemm <transB = 1> (f, w2)
}
"""


@pytest.mark.parametrize("kernel", [3, 7])
def test_rewrites_for_kernels_leave_the_macs_of_a_network(kernel: int, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(NETWORK.replace("PAD", str(kernel // 2)))
    random = np.random.default_rng(0)
    for name, shape in (("w0", (4, 3, kernel, kernel)), ("w1", (8, 4, 3, 3)), ("w2", (10, 8))):
        array = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "float.onnx")
    pixels = random.integers(0, 256, (16, 3, 16, 16)).astype(np.float32) / np.float32(255)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", pixels, pixels=((0.0,) * 3, (1.0,) * 3))
    float_facts, int8_facts = inspect_graph(tmp_path / "float.onnx"), inspect_graph(tmp_path / "int8.onnx")
    assert float_facts.macs == 4 * 64 * 3 * kernel**2 + 8 * 16 * 4 * 9 + 80
    assert int8_facts.macs == float_facts.macs
    written = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert "Slice" not in written and ("SpaceToDepth" in written) == (kernel == 7)


def test_weights_that_pruning_set_to_zero_are_counted(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> a (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }'
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    weight[:, 1] = 0
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "a.onnx")
    assert inspect_graph(tmp_path / "a.onnx").macs == 4 * 64 * 3
