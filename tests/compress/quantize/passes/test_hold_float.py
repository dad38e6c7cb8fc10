"""ONNX Runtime quantizes weights that a file keeps in float; a plan that says float must mean float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize import apply as apply_module
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.audit import audit
from edgelathe.compress.quantize.builder import Builder, Scheme

from ..conftest import decibels, images, model_from_text, run

SANDWICH = """
sandwich (float[N,3,8,8] input) => (float[N,8,8,8] output) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <pads = [1,1,1,1]> (r0, w1, b1)
  r1 = Relu (c1)
  output = Conv <pads = [1,1,1,1]> (r1, w2, b2)
}
"""
WEIGHTS = {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,)}


@pytest.fixture
def model(save: Callable[[onnx.ModelProto], Path]) -> Path:
    """One output channel of the middle convolution has huge weights for a channel that is always 0."""
    model = model_from_text(SANDWICH, WEIGHTS, seed=0)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, index, value in (("w0", 0, 0.0), ("b0", 0, 0.0), ("w1", (0, 0), 300.0)):
        array = onnx.numpy_helper.to_array(stored[name]).copy()
        array[index] = value
        stored[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = node.output[0]
    return save(model)


def built(model: Path) -> tuple[onnx.ModelProto, dict[str, str], float]:
    """The file with the middle convolution in float, what the runtime makes of its nodes, and its noise in dB."""
    pictures = images(16, (3, 8, 8), seed=1)
    file = Builder(model, pictures, target="x86-vnni").build(Scheme(per_channel=False), keep_float=["c1"])
    proto = onnx.load_from_string(file.file)
    kinds = {node.name: node.kind for node in audit(file.file, file.plan.nodes).nodes}
    return proto, kinds, decibels(run(model, pictures), run(proto, pictures))


def test_a_convolution_between_int8_ones_stays_float(model: Path) -> None:
    proto, kinds, noise = built(model)
    assert (kinds["c0"], kinds["c1"], kinds["output"]) == ("int8", "float", "int8")
    assert noise > 30
    onnx.checker.check_model(proto, full_check=True)


def test_without_the_hold_the_runtime_ruins_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, the runtime has changed its mind, and hold_float may go."""
    monkeypatch.setattr(apply_module, "hold_float", lambda _: 0)
    assert built(model)[2] < 10


def test_only_inputs_of_float_operators_are_written_per_channel(model: Path) -> None:
    builder = Builder(model, images(8, (3, 8, 8), seed=1), target="x86-vnni")
    whole = builder.build(Scheme(per_channel=False))
    assert not [node for node in onnx.load_from_string(whole.file).graph.node if _axis(node) is not None]
    held = apply_plan(builder.plain, builder.float_graph_plan(Scheme(per_channel=False), keep_float=["c1"]))
    per_channel = [node for node in ir.to_proto(held).graph.node if _axis(node) is not None]
    assert [node.output[0] for node in per_channel] == ["r0_dequantized_0"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in ir.to_proto(held).graph.initializer}
    scales = stored[per_channel[0].input[1]]
    assert scales.shape == (8,)
    assert np.unique(scales).size == 1


def _axis(node: onnx.NodeProto) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
