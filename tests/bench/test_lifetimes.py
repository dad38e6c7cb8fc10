from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.graph import inspect_graph
from edgelathe.bench.lifetimes import activation_peak, kernels
from edgelathe.bench.shapes import TensorType
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def peak(path: Path) -> int:
    return inspect_graph(path).activation_peak


def test_a_chain_holds_one_input_and_one_output_at_a_time(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,8] x) => (float[n,4] y) <float[8,100] a, float[100,50] b, float[50,4] c>
        { p = MatMul(x, a)  q = MatMul(p, b)  y = MatMul(q, c) }"""
    )
    assert peak(path) == 4 * max(8 + 100, 100 + 50, 50 + 4)


def test_an_elementwise_operator_overwrites_what_nobody_reads_again(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD + "g (float[n,8] x) => (float[n,50] y) <float[8,50] a> { p = MatMul(x, a)  q = Relu(p)  y = Sigmoid(q) }"
    )
    assert peak(path) == 4 * (8 + 50)


def test_an_operand_that_is_read_later_is_not_overwritten(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD + "g (float[n,8] x) => (float[n,50] y) <float[8,50] a> { p = MatMul(x, a)  q = Relu(p)  y = Mul(p, q) }"
    )
    assert peak(path) == 4 * (50 + 50)


def test_the_callers_input_is_not_overwritten(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,50] x) => (float[n,50] y) { y = Relu(x) }")
    assert peak(path) == 4 * (50 + 50)


def test_a_residual_lives_until_it_is_added(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,16] x) => (float[n,16] y) <float[16,64] a, float[64,16] b>
        { p = MatMul(x, a)  q = MatMul(p, b)  y = Add(q, x) }"""
    )
    assert peak(path) == 4 * (16 + 64 + 16)


def test_outputs_live_to_the_end(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,2] x) => (float[n,30] early, float[n,40] y)
        <float[2,30] a, float[30,20] b, float[20,40] c>
        { early = MatMul(x, a)  q = MatMul(early, b)  y = MatMul(q, c) }"""
    )
    assert peak(path) == 4 * (30 + 20 + 40)


def test_an_input_that_nobody_reads_takes_nothing(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,2] x, float[n,999] idle) => (float[n,3] y) <float[2,3] a> { y = MatMul(x, a) }")
    assert peak(path) == 4 * (2 + 3)


def test_computed_constants_are_no_activations(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,2] x) => (float[n,3] y) <int8[2,3] w, float s, int8 z>
        { wd = DequantizeLinear(w, s, z)  wt = Neg(wd)  y = MatMul(x, wt) }"""
    )
    assert peak(path) == 4 * (2 + 3)


CONV = """g (float[n,4,8,8] x) => (float[n,4,8,8] y)
    <float s, uint8 z, int8[4,4,1,1] w, float ws, int8 wz, int32[4] b, float bs>
    {
        xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        wd = DequantizeLinear(w, ws, wz)
        bd = DequantizeLinear(b, bs)
        c = Conv(xd, wd, bd)
        r = Relu(c)
        rq = QuantizeLinear(r, s, z)
        rd = DequantizeLinear(rq, s, z)
        MIDDLE
        yq = QuantizeLinear(m, s, z)
        y = DequantizeLinear(yq, s, z)
    }"""
PIXELS = 4 * 8 * 8


def test_a_quantized_operator_never_makes_float_tensors(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + CONV.replace("MIDDLE", "m = Conv(rd, wd, bd)"))
    # The float input (4 bytes) with its integers, integers only, then the float output with its integers.
    assert peak(path) == (4 + 1) * PIXELS
    model = onnx.shape_inference.infer_shapes(onnx.load_model(path))
    types = {
        value.name: TensorType((1, 4, 8, 8), value.type.tensor_type.elem_type)
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    } | {tensor.name: TensorType(tuple(tensor.dims), tensor.data_type) for tensor in model.graph.initializer}
    assert [(step.reads, step.writes) for step in kernels(model.graph, types)] == [
        (("x",), ("xq",)),
        (("xq",), ("rq",)),
        (("rq",), ("yq",)),
        (("yq",), ("y",)),
    ]


def test_an_operator_without_integer_kernel_costs_its_float_tensors(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD + CONV.replace("MIDDLE", "m = CumSum(rd, axis)").replace("float bs>", "float bs, int64 axis>")
    )
    # The operand and the result of CumSum, both in float.
    assert peak(path) == (4 + 4) * PIXELS


def test_a_tensor_read_quantized_and_in_float_exists_twice(save_text: Callable[[str], Path]) -> None:
    middle = """k = CumSum(rd, axis)
        k2 = Conv(rd, wd, bd)
        k2q = QuantizeLinear(k2, s, z)
        k2d = DequantizeLinear(k2q, s, z)
        m = Add(k, k2d)"""
    text = CONV.replace("MIDDLE", middle)
    path = save_text(HEAD + text.replace("float bs>", "float bs, int64 axis>"))
    # While CumSum runs: integers (still to be read), their float copy, its result.
    assert peak(path) == (1 + 4 + 4) * PIXELS


def test_the_last_layer_may_leave_its_result_in_float(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (uint8[n,64] x) => (float[n,10] y) <float s, uint8 z, int8[64,10] w, float ws, int8 wz>
        { xd = DequantizeLinear(x, s, z)  wd = DequantizeLinear(w, ws, wz)  y = Gemm(xd, wd) }"""
    )
    assert peak(path) == 64 + 40


def test_the_peak_of_mobilenet_v1_is_its_first_block(test_data: Path) -> None:
    path = test_data / "weights/imagenet/mobilenet_v1_0.75_224.onnx"
    assert peak(path) == 4 * 112 * 112 * (24 + 48)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_peak_lies_between_the_largest_step_and_the_sum(data: st.DataObject) -> None:
    """Random graphs of products, additions and activations, against a plain simulation without reuse."""
    width = {"x": data.draw(st.integers(1, 20), label="input")}
    nodes, stored = [], []
    for at in range(data.draw(st.integers(1, 8), label="operators")):
        op = data.draw(st.sampled_from(["MatMul", "Relu", "Add"]))
        source = data.draw(st.sampled_from(sorted(width)))
        name = f"t{at}"
        if op == "MatMul":
            width[name] = data.draw(st.integers(1, 20))
            stored.append(numpy_helper.from_array(np.ones((width[source], width[name]), np.float32), f"w{at}"))
            nodes.append(helper.make_node(op, [source, f"w{at}"], [name]))
        else:
            same = sorted(other for other, size in width.items() if size == width[source])
            second = [data.draw(st.sampled_from(same))] if op == "Add" else []
            width[name] = width[source]
            nodes.append(helper.make_node(op, [source, *second], [name]))
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width["x"]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, width[last]])],
        stored,
    )
    types = {name: TensorType((1, size), TensorProto.FLOAT) for name, size in width.items()}
    measured, notes = activation_peak(graph, types)
    held = [sum(4 * width[name] for name in {*node.input, *node.output} if name in width) for node in nodes]
    in_place = [4 * width[node.output[0]] if node.op_type != "MatMul" else 0 for node in nodes]
    assert notes == []
    assert measured >= max(total - spared for total, spared in zip(held, in_place, strict=True))
    assert measured <= 4 * sum(width.values())


def test_the_order_of_execution_is_the_stored_one(save_text: Callable[[str], Path]) -> None:
    big_first = "{ a = MatMul(x, big)  s = MatMul(a, down)  b = MatMul(x, small)  y = Add(s, b) }"
    big_last = "{ b = MatMul(x, small)  a = MatMul(x, big)  s = MatMul(a, down)  y = Add(s, b) }"
    weights = "<float[2,90] big, float[90,5] down, float[2,5] small>"
    head = HEAD + f"g (float[n,2] x) => (float[n,5] y) {weights}"
    assert peak(save_text(head + big_first)) == 4 * (2 + 90 + 5)
    assert peak(save_text(head + big_last)) == pytest.approx(4 * (5 + 90 + 5), abs=0)
