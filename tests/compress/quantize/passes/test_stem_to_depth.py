from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.stem_to_depth import spread, stem_to_depth
from edgelathe.compress.quantize.quantize import quantize

from ..conftest import decibels, images, model_from_text, run


def stem(kernel: int, side: int, attributes: str = "strides = [2,2]") -> ir.Model:
    text = f"s (float[N,3,{side},{side}] x) => (float[N,5,?,?] y) {{ r = Relu (x)\n y = Conv <{attributes}> (r, w) }}"
    return ir.from_proto(onnx.shape_inference.infer_shapes(
        model_from_text(text, {"w": (5, 3, kernel, kernel)}, seed=kernel)
    ))  # fmt: skip


@pytest.mark.parametrize("kernel", [5, 6, 7])
def test_the_function_stays_the_same(kernel: int) -> None:
    model, inputs = stem(kernel, 14), images(2, (3, 14, 14), seed=0)
    wanted = run(model, inputs)
    assert stem_to_depth(model, "r")
    assert [node.op_type for node in model.graph] == ["Relu", "SpaceToDepth", "Conv"]
    found = run(model, inputs)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "side", "attributes"),
    [
        (7, 15, "strides = [2,2]"),
        (7, 14, "strides = [1,1]"),
        (7, 14, "strides = [2,2], pads = [1,1,1,1]"),
        (3, 14, "strides = [2,2]"),
    ],
    ids=["odd", "stride 1", "padded", "small"],
)
def test_other_stems_are_left_alone(kernel: int, side: int, attributes: str) -> None:
    model = stem(kernel, side, attributes)
    assert not stem_to_depth(model, "r")
    assert [node.op_type for node in model.graph] == ["Relu", "Conv"]


def test_every_weight_is_kept_once() -> None:
    weight = np.arange(1, 2 * 3 * 3 * 3 + 1, dtype=np.float32).reshape(2, 3, 3, 3)
    assert np.array_equal(np.sort(spread(weight)[spread(weight) != 0]), np.sort(weight.ravel()))


STEM = """
stem (float[N,3,16,16] x) => (float[N,10] y) {
  c = Conv <pads = [3,3,3,3], strides = [2,2]> (x, w0, b0)
  r = Relu (c)
  g = GlobalAveragePool (r)
  f = Flatten (g)
  y = Gemm <transB = 1> (f, w1)
}
"""


def test_a_quantized_file_folds_codes_and_says_the_same(tmp_path: Path) -> None:
    onnx.save(model_from_text(STEM, {"w0": (8, 3, 7, 7), "b0": (8,), "w1": (10, 8)}, seed=0), tmp_path / "a.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 16, 16)).astype(np.float32)
    inputs = (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    quantized = quantize(tmp_path / "a.onnx", tmp_path / "b.onnx", inputs, pixels=((0.5,) * 3, (0.25,) * 3))
    outcome = {node.op: node.kind for node in quantized.audit.nodes}
    assert outcome["SpaceToDepth"] == "int8" and outcome["Conv"] == "int8"
    assert decibels(run(tmp_path / "a.onnx", inputs), run(tmp_path / "b.onnx", inputs)) > 35
