"""What is expected of onnxscript's optimizer; an update that stops doing it shows here."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.fold_constants import fold_constants

from ..conftest import images, model_from_text, run

NORM = {"g": (4,), "b": (4,), "m": (4,), "v": (4,)}
MAP = "agraph (float[N,3,4,4] x) => (float[N,4,h,w] y)"
CASES = {
    "convolution": (MAP + "{ c = Conv(x, k) y = BatchNormalization(c, g, b, m, v) }", (4, 3, 1, 1), ["Conv"]),
    "convolution with bias": (
        MAP + "{ c = Conv(x, k, b) y = BatchNormalization(c, g, b, m, v) }",
        (4, 3, 1, 1),
        ["Conv"],
    ),
    "transposed convolution": (
        MAP + "{ c = ConvTranspose(x, k) y = BatchNormalization<epsilon = 0.01>(c, g, b, m, v) }",
        (3, 4, 1, 1),
        ["ConvTranspose"],
    ),
    "fully connected": (
        "agraph (float[N,3] x) => (float[N,4] y) { c = Gemm(x, k) y = BatchNormalization(c, g, b, m, v) }",
        (3, 4),
        ["Gemm"],
    ),
    "constants": (
        MAP + "{ k2 = Mul(k, k) k3 = Relu(k2) y = Conv(x, k3) }",
        (4, 3, 1, 1),
        ["Conv"],
    ),
    "dropout and identity": (
        MAP
        + """<float ratio = {0.5}, bool training = {0}>
             { i = Identity(x) d, mask = Dropout(i, ratio, training) e = Dropout(d) y = Conv(e, k) }""",
        (4, 3, 1, 1),
        ["Conv"],
    ),
    "padding": (
        MAP + "<int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>{ p = Pad(x, pads) y = Conv(p, k) }",
        (4, 3, 3, 3),
        ["Conv"],
    ),
    "bounds": (
        MAP + "<float zero = {0.0}, float six = {6.0}>{ c = Conv(x, k) a = Max(c, zero) y = Min(a, six) }",
        (4, 3, 1, 1),
        ["Conv", "Clip"],
    ),
}


@pytest.mark.parametrize(("text", "kernel", "expected"), CASES.values(), ids=CASES.keys())
def test_folded(text: str, kernel: tuple[int, ...], expected: list[str]) -> None:
    before = model_from_text(text, {"k": kernel, **NORM}, seed=0, positive=("v",))
    model = ir.from_proto(before)
    assert fold_constants(model) > 0
    assert [node.op_type for node in model.graph] == expected
    x = images(2, (3, 4, 4), seed=1)
    x = x if len(kernel) == 4 else x[:, :, 0, 0]
    np.testing.assert_allclose(run(model, x), run(before, x), rtol=1e-5, atol=5e-6)


def test_a_batch_norm_whose_input_others_read_stays() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y)
              { c = Conv(x, k) n = BatchNormalization(c, g, b, m, v) y = Add(c, n) }"""
    model = ir.from_proto(model_from_text(text, {"k": (4, 3, 1, 1), **NORM}, seed=0, positive=("v",)))
    fold_constants(model)
    assert "BatchNormalization" in {node.op_type for node in model.graph}
