"""Each form: it fires, computes the same, and leaves alone what only looks like it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.activation_forms import activation_forms

from ..conftest import images, model_from_text, run

HEAD = """agraph (float[N,3,4,4] x) => (float[N,3,4,4] y)
<float three = {3.0}, float six = {6.0}, float sixth = {0.16666667}, float zero = {0.0}, float one = {1.0},
 float two = {2.0}>
"""
FIRES = {
    "hard-swish": ("{ y = HardSwish(x) }", ["HardSigmoid", "Mul"]),
    "hard-sigmoid of a quotient": ("{ a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) }", ["HardSigmoid"]),
    "hard-sigmoid of a product": (
        "{ a = Add(three, x) c = Clip(a, zero, six) y = Mul(sixth, c) }",
        ["HardSigmoid"],
    ),
    "hard-sigmoid with another slope": (
        "{ a = Add(x, one) c = Clip(a, zero, two) y = Div(c, two) }",
        ["HardSigmoid"],
    ),
    "hard-swish, gate divided": (
        "{ a = Add(x, three) c = Clip(a, zero, six) h = Div(c, six) y = Mul(x, h) }",
        ["HardSigmoid", "Mul"],
    ),
    "hard-swish, product divided": (
        "{ a = Add(x, three) c = Clip(a, zero, six) p = Mul(x, c) y = Div(p, six) }",
        ["HardSigmoid", "Mul"],
    ),
    "SiLU by exponential": (
        "{ n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(x, d) }",
        ["Sigmoid", "Mul"],
    ),
}
STAYS = {
    "clip to something else": (
        "{ a = Add(x, three) c = Clip(a, zero, three) y = Div(c, six) }",
        ["Add", "Clip", "Div"],
    ),
    "clip from below zero": ("{ a = Add(x, three) c = Clip(a, one, six) y = Div(c, six) }", ["Add", "Clip", "Div"]),
    "quotient of another value": (
        "{ n = Neg(x) e = Exp(n) d = Add(e, one) z = Relu(x) y = Div(z, d) }",
        ["Neg", "Exp", "Add", "Relu", "Div"],
    ),
    "SiLU as products": ("{ s = Sigmoid(x) y = Mul(x, s) }", ["Sigmoid", "Mul"]),
}


def rewritten(body: str) -> tuple[onnx.ModelProto, ir.Model]:
    before = model_from_text(HEAD + body, {}, seed=0)
    model = ir.from_proto(before)
    activation_forms(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return before, model


def inputs() -> np.ndarray:
    x = 4.0 * images(2, (3, 4, 4), seed=1)
    x.ravel()[:5] = (-3.0, 3.0, 0.0, -30.0, 30.0)
    return x


@pytest.mark.parametrize(("body", "expected"), FIRES.values(), ids=FIRES.keys())
def test_form_fires(body: str, expected: list[str]) -> None:
    before, model = rewritten(body)
    assert [node.op_type for node in model.graph] == expected
    np.testing.assert_allclose(run(model, inputs()), run(before, inputs()), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("body", "expected"), STAYS.values(), ids=STAYS.keys())
def test_form_leaves_alone(body: str, expected: list[str]) -> None:
    _, model = rewritten(body)
    assert [node.op_type for node in model.graph] == expected


def test_a_value_that_others_read_is_kept() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,3,4,4] y, float[N,3,4,4] h)
    { h = HardSwish(x) y = Relu(h) }"""
    before = model_from_text(text, {}, seed=0)
    model = ir.from_proto(before)
    assert activation_forms(model) == 1
    assert [value.name for value in model.graph.outputs] == ["y", "h"]
    np.testing.assert_allclose(run(model, inputs()), run(before, inputs()), rtol=1e-5, atol=2e-6)


def test_swish_of_opset_24() -> None:
    text = '<ir_version: 10, opset_import: ["" : 24]> g (float[N,3] x) => (float[N,3] y) { y = Swish(x) }'
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert activation_forms(model) == 1
    assert [node.op_type for node in model.graph] == ["Sigmoid", "Mul"]
    x = np.linspace(-8, 8, 33, dtype=np.float32).reshape(11, 3)
    model.opset_imports[""] = 18
    np.testing.assert_allclose(run(model, x), x / (1 + np.exp(-x)), rtol=1e-5, atol=2e-6)


def test_swish_with_another_slope_stays() -> None:
    text = '<ir_version: 10, opset_import: ["" : 24]> g (float[N,3] x) => (float[N,3] y) { y = Swish<alpha = 2.0>(x) }'
    assert activation_forms(ir.from_proto(onnx.parser.parse_model(text))) == 0
