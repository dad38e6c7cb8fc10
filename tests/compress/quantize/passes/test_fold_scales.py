"""Factors per channel go into weights where nothing else reads what they scale."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.fold_scales import fold_scales
from edgelathe.compress.quantize.passes.infer_shapes import infer_shapes

from ..conftest import images, model_from_text, run

MAP = "agraph (float[N,3,4,4] x) => (float[N,4,4,4] y)"
FIRES = {
    "convolution": (MAP + "{ c = Conv(x, w, b) y = Mul(c, g) }", {"w": (4, 3, 1, 1), "b": (4,), "g": (4, 1, 1)}, 1),
    "convolution without bias": (MAP + "{ c = Conv(x, w) y = Mul(g, c) }", {"w": (4, 3, 1, 1), "g": (1, 4, 1, 1)}, 1),
    "one factor for all": (MAP + "{ c = Conv(x, w) y = Mul(c, g) }", {"w": (4, 3, 1, 1), "g": ()}, 1),
    "two factors": (
        MAP + "{ c = Conv(x, w) d = Mul(c, g) y = Mul(h, d) }",
        {"w": (4, 3, 1, 1), "g": (4, 1, 1), "h": (4, 1, 1)},
        2,
    ),
    "layer scale of ConvNeXt": (
        MAP
        + """{ t = Transpose<perm = [0, 2, 3, 1]>(x) m = MatMul(t, w) a = Add(m, b)
                   u = Transpose<perm = [0, 3, 1, 2]>(a) y = Mul(u, g) }""",
        {"w": (3, 4), "b": (4,), "g": (4, 1, 1)},
        1,
    ),
    "fully connected": (
        "agraph (float[N,3] x) => (float[N,4] y) { c = Gemm<transB = 1>(x, w, b) y = Mul(c, g) }",
        {"w": (4, 3), "b": (4,), "g": (4,)},
        1,
    ),
}
STAYS = {
    "a factor per pixel": (MAP + "{ c = Conv(x, w) y = Mul(c, g) }", {"w": (4, 3, 1, 1), "g": (4, 4)}),
    "another reader": (
        "agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) { c = Conv(x, w) d = Mul(c, g) y = Add(c, d) }",
        {"w": (4, 3, 1, 1), "g": (4, 1, 1)},
    ),
    "a graph output": (
        "agraph (float[N,3,4,4] x) => (float[N,4,4,4] y, float[N,4,4,4] c) { c = Conv(x, w) y = Mul(c, g) }",
        {"w": (4, 3, 1, 1), "g": (4, 1, 1)},
    ),
    "a nonlinearity between": (
        MAP + "{ c = Conv(x, w) r = Relu(c) y = Mul(r, g) }",
        {"w": (4, 3, 1, 1), "g": (4, 1, 1)},
    ),
}


def folded(before: onnx.ModelProto) -> tuple[ir.Model, int]:
    model = ir.from_proto(before)
    infer_shapes(model)
    count = fold_scales(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model, count


def batch(model: onnx.ModelProto) -> np.ndarray:
    spatial = len(model.graph.input[0].type.tensor_type.shape.dim) == 4
    x = images(2, (3, 4, 4), seed=1)
    return x if spatial else x[:, :, 0, 0]


@pytest.mark.parametrize(("text", "weights", "count"), FIRES.values(), ids=FIRES.keys())
def test_factor_is_folded(text: str, weights: dict[str, tuple[int, ...]], count: int) -> None:
    before = model_from_text(text, weights, seed=0)
    model, found = folded(before)
    assert found == count
    assert "Mul" not in {node.op_type for node in model.graph}
    assert model.graph.outputs[0].name == "y"
    np.testing.assert_allclose(run(model, batch(before)), run(before, batch(before)), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("text", "weights"), STAYS.values(), ids=STAYS.keys())
def test_factor_stays(text: str, weights: dict[str, tuple[int, ...]]) -> None:
    before = model_from_text(text, weights, seed=0)
    model, found = folded(before)
    assert found == 0
    np.testing.assert_array_equal(run(model, batch(before)), run(before, batch(before)))


def test_an_addend_is_left_alone_where_what_it_is_added_to_cannot_be_scaled() -> None:
    text = "agraph (float[N,4,4,4] x) => (float[N,4,4,4] y) { r = Relu(x) a = Add(r, b) y = Mul(a, g) }"
    before = model_from_text(text, {"b": (4, 1, 1), "g": (4, 1, 1)}, seed=0)
    model, found = folded(before)
    assert found == 0
    x = images(2, (4, 4, 4), seed=1)
    np.testing.assert_array_equal(run(model, x), run(before, x))
