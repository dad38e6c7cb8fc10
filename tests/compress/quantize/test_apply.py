from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from edgelathe.compress.quantize.builder import Builder, Scheme

from .conftest import decibels, images, model_from_text, run

TRUNK = """trunk (float[N,4,8,8] input) => (float[N,4,8,8] s1) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  s0 = Add (c0, input)
  c1 = Conv <pads = [1,1,1,1]> (s0, w1, b1)
  s1 = Add (c1, s0)
}"""
WEIGHTS = {"w0": (4, 4, 3, 3), "b0": (4,), "w1": (4, 4, 3, 3), "b1": (4,)}


def readers(file: bytes, value: str) -> set[str]:
    graph = ir.from_proto(onnx.load_from_string(file)).graph
    (found,) = (output for node in graph for output in node.outputs if output.name == value)
    return {use.node.op_type for use in found.uses()}


def test_what_float_computes_float_reads_unrounded(save: Callable[[onnx.ModelProto], Path]) -> None:
    model, x = save(model_from_text(TRUNK, WEIGHTS, seed=0)), images(16, (4, 8, 8), seed=1)
    builder = Builder(model, x, target="x86-vnni")
    in_int8, in_float = (builder.build(Scheme("minmax"), keep_float=keep).file for keep in ((), ("s0", "s1")))
    assert readers(in_float, "s0") == {"QuantizeLinear", "Add"}
    assert readers(in_int8, "s0") == {"QuantizeLinear"}
    reference = run(model, x)
    noise = [decibels(reference, run(onnx.load_from_string(file), x)) for file in (in_int8, in_float)]
    assert noise[1] > noise[0] + 0.3


def test_an_output_that_float_computes_is_not_rounded(save: Callable[[onnx.ModelProto], Path]) -> None:
    text = TRUNK.replace("=> (float[N,4,8,8] s1)", "=> (float[N,4,8,8] s1, float[N,4,8,8] s0)")
    model, x = save(model_from_text(text, WEIGHTS, seed=0)), images(16, (4, 8, 8), seed=1)
    file = Builder(model, x, target="x86-vnni").build(Scheme("minmax"), keep_float=("s0", "s1")).file
    outputs = onnx.load_from_string(file).graph.output
    assert [output.name for output in outputs] == ["s1", "s0"]
    assert readers(file, "s0") == {"QuantizeLinear", "Add"}
