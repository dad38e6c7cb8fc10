"""Each rewrite: it fires where it may, the graph computes the same, and it leaves alone what it must."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from edgelathe.models.onnx_rewrites import rewrite_graph

HEADER = '<ir_version: 8, opset_import: ["" : 18]>\n'


def graph(text: str) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + text), strict_mode=True)


def rewritten(before: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(copy.deepcopy(before))
    rewrite_graph(model)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    return after


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": x})


def assert_equal_results(before: onnx.ModelProto, after: onnx.ModelProto, tolerance: float) -> None:
    shape = [dim.dim_value or 3 for dim in before.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for a, b in zip(run(before, x), run(after, x), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


SLICES = """g (float[N,2,6,6] x) => (float[N,2,h,w] y)
<int64[1] zero = {0}, int64[1] end = {9223372036854775807}, int64[1] rows = {2}, int64[1] columns = {%s},
 int64[1] two = {2}>
{ a = Slice(x, zero, end, rows, two)  y = Slice(a, zero, end, columns, two) }"""

FIRES = {
    "slices": (SLICES % "3", ["Slice"]),
    "mean with kept axes": (
        "g (float[N,4,5,5] x) => (float[N,4,1,1] y) <int64[2] axes = {-1, -2}>"
        "{ y = ReduceMean<keepdims = 1>(x, axes) }",
        ["GlobalAveragePool"],
    ),
    "mean without axes": (
        "g (float[N,4,5,5] x) => (float[N,4] y) <int64[2] axes = {2, 3}>{ y = ReduceMean<keepdims = 0>(x, axes) }",
        ["GlobalAveragePool", "Flatten"],
    ),
    "pool over the map": (
        "g (float[N,4,5,6] x) => (float[N,4,1,1] y) { y = AveragePool<kernel_shape = [5, 6]>(x) }",
        ["GlobalAveragePool"],
    ),
    "reshape": (
        "g (float[N,4,2,2] x) => (float[N,16] y) <int64[2] shape = {-1, 16}> { y = Reshape(x, shape) }",
        ["Flatten"],
    ),
    "squeeze": (
        "g (float[N,4,1,1] x) => (float[N,4] y) <int64[2] axes = {2, 3}> { y = Squeeze(x, axes) }",
        ["Flatten"],
    ),
    "mean and reshape": (
        "g (float[N,4,5,5] x) => (float[N,4] y) <int64[2] axes = {2, 3}, int64[2] shape = {-1, 4}>"
        "{ a = ReduceMean<keepdims = 1>(x, axes)  y = Reshape(a, shape) }",
        ["GlobalAveragePool", "Flatten"],
    ),
}

STAYS = {
    "slices of one axis": (SLICES % "2", ["Slice", "Slice"]),
    "slice used twice": (
        """g (float[N,2,6,6] x) => (float[N,2,3,3] y, float[N,2,3,6] a)
        <int64[1] zero = {0}, int64[1] end = {9223372036854775807}, int64[1] rows = {2},
         int64[1] columns = {3}, int64[1] two = {2}>
        { a = Slice(x, zero, end, rows, two)  y = Slice(a, zero, end, columns, two) }""",
        ["Slice", "Slice"],
    ),
    "slices without steps": (
        "g (float[N,2,6,6] x) => (float[N,2,h,w] y) <int64[1] one = {1}, int64[1] end = {5},"
        "int64[1] r = {2}, int64[1] c = {3}> { a = Slice(x, one, end, r)  y = Slice(a, one, end, c) }",
        ["Slice", "Slice"],
    ),
    "mean over channels": (
        "g (float[N,4,5,5] x) => (float[N,1,5,5] y) <int64[1] axes = {1}> { y = ReduceMean(x, axes) }",
        ["ReduceMean"],
    ),
    "mean of tokens": (
        "g (float[N,4,5] x) => (float[N,4] y) <int64[1] axes = {2}>{ y = ReduceMean<keepdims = 0>(x, axes) }",
        ["ReduceMean"],
    ),
    "padded pool": (
        "g (float[N,4,2,2] x) => (float[N,4,h,w] y)"
        "{ y = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], strides = [4, 4]>(x) }",
        ["AveragePool"],
    ),
    "small pool": (
        "g (float[N,4,4,4] x) => (float[N,4,2,2] y){ y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        ["AveragePool"],
    ),
    "reshape that mixes images": (
        "g (float[4,2,3] x) => (float[2,12] y) <int64[2] shape = {2, 12}> { y = Reshape(x, shape) }",
        ["Reshape"],
    ),
    "reshape to tokens": (
        "g (float[N,4,2,2] x) => (float[N,4,4] y) <int64[3] shape = {0, 4, 4}> { y = Reshape(x, shape) }",
        ["Reshape"],
    ),
}


@pytest.mark.parametrize("text, expected", FIRES.values(), ids=FIRES.keys())
def test_rewrite_fires(text: str, expected: list[str]) -> None:
    before = graph(text)
    after = rewritten(before)
    assert ops(after) == expected
    assert_equal_results(before, after, tolerance=1e-6)


@pytest.mark.parametrize("text, expected", STAYS.values(), ids=STAYS.keys())
def test_rewrite_leaves_alone(text: str, expected: list[str]) -> None:
    before = graph(text)
    after = rewritten(before)
    assert ops(after) == expected
    assert_equal_results(before, after, tolerance=0)


def test_axes_may_be_an_attribute_as_before_opset_18() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4,5,5] x) => (float[N,4,1,1] y)'
    before = onnx.shape_inference.infer_shapes(
        onnx.parser.parse_model(text + "{ y = ReduceMean<axes = [2, 3]>(x) }"), strict_mode=True
    )
    after = rewritten(before)
    assert ops(after) == ["GlobalAveragePool"]
    assert_equal_results(before, after, tolerance=1e-6)


def test_new_nodes_are_named_after_the_one_they_replace() -> None:
    before = graph(FIRES["mean without axes"][0])
    before.graph.node[0].name = "pool"
    assert [node.name for node in rewritten(before).graph.node] == ["pool_GlobalAveragePool", "pool"]
