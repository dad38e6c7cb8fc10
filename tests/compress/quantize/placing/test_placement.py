from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.activation_forms import activation_forms
from edgelathe.compress.quantize.passes.fold_constants import fold_constants
from edgelathe.compress.quantize.passes.infer_shapes import infer_shapes
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import Placement, place
from edgelathe.compress.quantize.placing.targets import TARGETS
from edgelathe.errors import EdgeLatheError

from ..conftest import model_from_text


def placed(text: str, weights: dict[str, tuple[int, ...]], target: str = "x86-vnni") -> Placement:
    model = ir.from_proto(model_from_text(text, weights, seed=0))
    fold_constants(model)
    infer_shapes(model)
    activation_forms(model)
    return place(model, target=target)


def kinds(placement: Placement) -> list[tuple[str, str]]:
    return [(node.op, node.kind) for node in placement.nodes]


def test_a_small_resnet_is_int8_from_end_to_end(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    placement = place(prepare(save(residual)))
    assert kinds(placement) == [
        ("Conv", "int8"), ("Relu", "absorbed"), ("Conv", "int8"), ("Clip", "absorbed"), ("Conv", "int8"),
        ("Add", "int8"), ("Relu", "absorbed"), ("MaxPool", "int8"), ("GlobalAveragePool", "int8"),
        ("Flatten", "int8"), ("Gemm", "int8"),
    ]  # fmt: skip
    # The logits stay float; pooling by maximum and flattening keep the codes of what they read.
    assert placement.tied == (("input",), ("r0",), ("r1",), ("c2",), ("r2", "m"), ("p", "f"))


def test_float_nodes_say_why() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             e = Elu (x)
             c = Conv (e, w)
             t = Tanh (c)
             s = Add (t, c)
             y = Relu (s)
           }""",
        {"w": (2, 3, 1, 1)},
    )
    assert [(node.op, node.kind, node.reason) for node in placement.nodes] == [
        ("Elu", "float", "there is no int8 kernel for Elu"),
        ("Conv", "int8", ""),
        ("Tanh", "float", "there is no int8 kernel for Tanh"),
        ("Add", "float", "its input t is float"),
        ("Relu", "float", "its input s is float"),
    ]


def test_operators_read_only_in_float_stay_float() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             c = Conv (x, w)
             s = Add (c, c)
             r = Relu (s)
             y = Softmax (r)
           }""",
        {"w": (2, 3, 1, 1)},
    )
    assert kinds(placement) == [("Conv", "int8"), ("Add", "float"), ("Relu", "float"), ("Softmax", "float")]
    assert placement.nodes[1].reason == "its result is only read in float"


def test_concatenation_shares_one_scale() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             a = Conv (x, w)
             b = Conv (a, v)
             j = Concat <axis = 1> (a, b)
             y = Conv (j, u)
           }""",
        {"w": (2, 3, 1, 1), "v": (2, 2, 1, 1), "u": (2, 4, 1, 1)},
    )
    assert ("a", "b", "j") in placement.tied


def test_weights_computed_at_run_time_stay_float() -> None:
    placement = placed(
        """agraph (float[1,2,1,1] x) => (float[1,1,1,1] y) {
             w = Abs (x)
             y = Conv (x, w)
           }""",
        {},
    )
    assert placement.nodes[1].reason == "its weights are computed at run time"


def test_nodes_and_values_can_be_kept_float(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    model = prepare(save(residual))
    placement = place(model, keep_float=("c1",))
    convolutions = [node for node in placement.nodes if node.op == "Conv"]
    assert [(node.kind, node.reason) for node in convolutions] == [
        ("int8", ""), ("float", "asked to stay float"), ("int8", ""),
    ]  # fmt: skip


def test_unknown_names_are_refused(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError, match=r'No node or tensor of the model is named "logit": did you mean "logits"'):
        place(prepare(save(residual)), keep_float=("logit",))


def test_an_absorbed_activation_never_shares_a_wider_scale() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             a = Conv (x, w)
             r = Relu (a)
             b = Conv (r, v)
             m = MaxPool <kernel_shape = [1,1]> (r)
             j = Concat <axis = 1> (m, b)
             y = Conv (j, u)
           }""",
        {"w": (2, 3, 1, 1), "v": (2, 2, 1, 1), "u": (2, 4, 1, 1)},
    )
    assert ("r", "m") in placement.tied
    assert ("b",) in placement.tied
    assert ("j",) in placement.tied


GATED = {"w": (8, 3, 1, 1), "v": (8, 8, 1, 1), "u": (8, 8, 1, 1)}
SQUEEZE = """agraph (float[N,3,4,4] x) => (float[N,8,4,4] y) {
    a = Conv (x, w)
    p = GlobalAveragePool (a)
    e = Conv (p, v)
    g = %s (e)
    k = Mul (%s)
    y = Conv (k, u)
}"""


@pytest.mark.parametrize("order", ["a, g", "g, a"])
@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_a_squeeze_and_excitation_gate_is_int8_on_either_side(order: str, gate: str) -> None:
    placement = placed(SQUEEZE % (gate, order), GATED)
    assert {kind for _, kind in kinds(placement)} == {"int8"}


def test_a_float_gate_is_converted_because_it_is_small() -> None:
    placement = placed(SQUEEZE % ("Tanh", "a, g"), GATED)
    assert [op for op, kind in kinds(placement) if kind == "float"] == ["Tanh"]
    assert "g" in placement.values


def test_hard_swish_is_a_clamp_of_codes_and_a_product() -> None:
    text = "agraph (float[N,3,4,4] x) => (float[N,8,4,4] y) { a = Conv (x, w) h = HardSwish (a) y = Conv (h, v) }"
    placement = placed(text, GATED)
    assert kinds(placement) == [("Conv", "int8"), ("HardSigmoid", "int8"), ("Mul", "int8"), ("Conv", "int8")]
    assert ("h_gate",) in placement.tied
    assert ("a",) in placement.tied


def test_hard_sigmoid_of_clamped_codes_stays_float() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,8,4,4] y)
              { a = Conv (x, w) r = Relu (a) g = HardSigmoid (r) h = Mul (r, g) y = Conv (h, v) }"""
    (gate,) = [node for node in placed(text, GATED).nodes if node.op == "HardSigmoid"]
    assert (gate.kind, gate.reason) == (
        "float", "the codes that it reads are not free to reach down to where it leaves 0",
    )  # fmt: skip


def test_a_relu_that_nothing_absorbs_clamps_codes() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,8,4,4] y)
              { a = Conv (x, w) r = Relu (a) s = Add (a, r) y = Conv (s, v) }"""
    placement = placed(text, GATED)
    assert ("Relu", "int8") in kinds(placement)
    assert ("a", "r") in placement.tied


def test_bounds_around_zero_are_absorbed_and_others_are_not() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,8,4,4] y)
              <float low = {%s}, float high = {2.0}>
              { a = Conv (x, w) r = Clip (a, low, high) y = Conv (r, v) }"""
    assert ("Clip", "absorbed") in kinds(placed(text % "-1.0", GATED))
    assert ("Clip", "int8") in kinds(placed(text % "0.5", GATED))


TRANSFORMER = """agraph (float[N,16,8] x) => (float[N,16,8] y) {
    n = LayerNormalization <axis = -1> (x, g, b)
    q = MatMul (n, wq)
    k = MatMul (n, wk)
    t = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, t)
    p = Softmax <axis = -1> (s)
    v = MatMul (n, wv)
    a = MatMul (p, v)
    o = MatMul (a, wo)
    r = Add (x, o)
    e = MatMul (r, w1)
    f = Erf (e)
    y = MatMul (f, w2)
}"""
TRANSFORMER_WEIGHTS = {
    "g": (8,), "b": (8,), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8), "w1": (8, 16), "w2": (16, 8),
}  # fmt: skip


def test_a_transformer_multiplies_in_int8_and_does_the_rest_in_float() -> None:
    nodes = placed(TRANSFORMER, TRANSFORMER_WEIGHTS).nodes
    assert [node.kind for node in nodes if node.op == "MatMul"] == [
        "int8", "int8", "float", "int8", "float", "int8", "int8", "int8",
    ]  # fmt: skip
    reasons = {node.op: node.reason for node in nodes if node.kind == "float"}
    assert "both of its sides are activations" in reasons["MatMul"]
    assert "8 bits hold too coarsely" in reasons["LayerNormalization"]
    assert "small probabilities" in reasons["Softmax"]
    assert "hands on float sums" in reasons["Erf"]
    assert reasons["Add"] == "its input x is float"


def test_integers_are_no_activations() -> None:
    text = "agraph (float[N,3,4,4] x) => (float[N,8,4,4] y, int64[4] s) { s = Shape (x) y = Conv (x, w) }"
    (shape,) = [node for node in placed(text, GATED).nodes if node.op == "Shape"]
    assert shape.reason == "it computes shapes, indices or masks, no activations"


def test_openvino_leaves_activation_functions_to_the_operator_before() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,8,4,4] y)
              { a = Conv (x, w) g = Sigmoid (a) h = Mul (a, g) y = Conv (h, v) }"""
    placement = placed(text, GATED, target="openvino")
    assert kinds(placement) == [("Conv", "int8"), ("Sigmoid", "float"), ("Mul", "float"), ("Conv", "int8")]
    assert placement.values == ("x", "h")


def test_litert_ties_pooling_and_never_a_sigmoid() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,8] y)
              { a = Conv (x, w) g = Sigmoid (a) j = Concat <axis = 1> (a, g) b = Conv (j, v)
                p = GlobalAveragePool (b) f = Flatten (p) y = MatMul (f, m) }"""
    placement = placed(text, {**GATED, "v": (8, 16, 1, 1), "m": (8, 8)}, target="litert")
    assert ("b", "p", "f") in placement.tied
    assert ("g",) in placement.tied
    assert "y" in placement.values


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_places_a_small_resnet(target: str, residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    placement = place(prepare(save(residual)), target=target)
    assert {node.kind for node in placement.nodes} == {"int8", "absorbed"}


def test_unknown_targets_are_refused(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError, match='Unknown target "arm": did you mean "arm64"'):
        place(prepare(save(residual)), target="arm")


def test_what_only_repeats_values_needs_no_range_of_its_own(save) -> None:  # type: ignore[no-untyped-def]
    text = """moves (float[N,3,8,8] input) => (float[N,5,4,4] c2) {
      c0 = Conv (input, w0)
      c1 = Conv (input, w1)
      both = Concat <axis = 1> (c0, c1)
      pooled = MaxPool <kernel_shape = [2,2], strides = [2,2]> (both)
      c2 = Conv (pooled, w2)
    }"""
    weights = {"w0": (4, 3, 1, 1), "w1": (2, 3, 1, 1), "w2": (5, 6, 1, 1)}
    placement = place(prepare(save(model_from_text(text, weights, seed=0))))
    assert placement.moved == {"both", "pooled"}
    assert set(placement.measured) == {"input", "c0", "c1", "c2"}
    assert {"c0", "c1", "both", "pooled"} in [set(group) for group in placement.tied]


def test_values_clamped_otherwise_than_what_they_are_joined_with_are_measured(save) -> None:  # type: ignore[no-untyped-def]
    text = """joins (float[N,3,8,8] input) => (float[N,5,8,8] c2) {
      c0 = Conv (input, w0)
      r0 = Relu (c0)
      c1 = Conv (input, w1)
      both = Concat <axis = 1> (r0, c1)
      c2 = Conv (both, w2)
    }"""
    weights = {"w0": (4, 3, 1, 1), "w1": (2, 3, 1, 1), "w2": (5, 6, 1, 1)}
    placement = place(prepare(save(model_from_text(text, weights, seed=0))))
    assert placement.moved == frozenset()
    assert "both" in placement.measured
