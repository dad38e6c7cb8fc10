"""Names of an exported graph follow from the module tree, and nothing of this machine is left in it."""

from __future__ import annotations

import copy

import onnx
import onnx.parser
import onnx_ir as ir
from edgelathe.export.canonical import SCOPES_KEY, canonicalise, strip

HEADER = '<ir_version: 8, opset_import: ["" : 18]>\n'


def graph(text: str) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + text), strict_mode=True)


def rewritten(before: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(copy.deepcopy(before))
    canonicalise(model)
    after = ir.to_proto(model)
    strip(after)
    onnx.checker.check_model(after, full_check=True)
    return after


SLICES = """g (float[N,2,6,6] x) => (float[N,2,h,w] y)
<int64[1] zero = {0}, int64[1] end = {9223372036854775807}, int64[1] rows = {2}, int64[1] columns = {%s},
 int64[1] two = {2}>
{ a = Slice(x, zero, end, rows, two)  y = Slice(a, zero, end, columns, two) }"""


def test_merged_slice_names_both_axes_and_keeps_no_leftovers() -> None:
    after = rewritten(graph(SLICES % "3"))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in after.graph.initializer}
    assert arrays == {
        "Slice.starts": [0, 0],
        "Slice.ends": [2**63 - 1] * 2,
        "Slice.axes": [2, 3],
        "Slice.steps": [2, 2],
    }


def test_names_come_from_modules_and_parameters() -> None:
    before = graph(
        """g (float[N,1,4,4] input) => (float[N,2,4,4] logits)
        <float[2,1,1,1] w = {1, 2}, float[2] val_7 = {0.5, 0.25}, float[1] val_9 = {3}>
        { a = Conv(input, w, val_7)  b = Relu(a)  c = Relu(b)  d = Mul(c, val_9)  logits = Relu(d) }"""
    )
    before.graph.initializer[0].name = before.graph.node[0].input[1] = "body.0.weight"
    for node, scope in zip(before.graph.node, ("body.1", "body", "body", "", "input"), strict=True):
        node.metadata_props.add(key=SCOPES_KEY, value=str(["", *([scope] if scope else []), "leaf"]))
    after = rewritten(before)
    assert [node.name for node in after.graph.node] == [
        "body.0",
        "body/Relu",
        "body/Relu_1",
        "Mul",
        "input/Relu",
    ]
    assert [list(node.output) for node in after.graph.node] == [
        ["body.0"],
        ["body/Relu"],
        ["body/Relu_1"],
        ["Mul"],
        ["logits"],
    ]
    assert [tensor.name for tensor in after.graph.initializer] == ["body.0.weight", "body.0.bias", "Mul.B"]


def test_a_module_called_like_the_input_gets_another_name() -> None:
    before = graph(
        "g (float[N,2] input) => (float[N,2] logits) <float[2,2] w = {1, 2, 3, 4}>"
        "{ a = Relu(input)  logits = Gemm(a, w) }"
    )
    before.graph.initializer[0].name = before.graph.node[1].input[1] = "input.weight"
    after = rewritten(before)
    assert [node.name for node in after.graph.node] == ["Relu", "input_1"]
    assert list(after.graph.node[1].input) == ["Relu", "input_1.weight"]


def test_shared_weights_stay_shared() -> None:
    before = graph(
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}> { a = Gemm(x, w)  y = Gemm(a, w) }"
    )
    before.graph.initializer[0].name = "fc.weight"
    for node in before.graph.node:
        node.input[1] = "fc.weight"
    after = rewritten(before)
    assert [node.name for node in after.graph.node] == ["fc", "fc_1"]
    assert [tensor.name for tensor in after.graph.initializer] == ["fc.weight"]


def test_strips_what_the_exporter_notes() -> None:
    before = graph("g (float[N,2] x) => (float[N,2] y) { a = Relu(x)  y = Relu(a) }")
    before.doc_string = before.graph.doc_string = before.graph.node[0].doc_string = "/home/someone/net.py"
    for holder in (
        before,
        before.graph,
        before.graph.node[0],
        before.graph.input[0],
        before.graph.value_info[0],
    ):
        holder.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/net.py")
    after = rewritten(before)
    assert b"someone" not in after.SerializeToString()
    assert b"pkg.torch" not in after.SerializeToString()


def test_values_inside_a_branch_keep_their_names_and_none_is_taken_twice() -> None:
    before = graph(
        """g (float[2] x, bool c) => (float[2] y)
        { a = Relu(x)
          b = If (c) <then_branch = t () => (float[2] Relu) { Relu = Neg(a) },
                      else_branch = e () => (float[2] other) { other = Abs(a) }>
          y = Relu(b) }"""
    )
    after = rewritten(before)
    assert [node.name for node in after.graph.node] == ["Relu_1", "If", "Relu_2"]
    branch = next(a.g for a in after.graph.node[1].attribute if a.name == "then_branch")
    assert list(branch.node[0].input) == ["Relu_1"]
    assert list(branch.node[0].output) == ["Relu"]
