from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.exact_pixels import PIXELS, exact_pixels
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.data import Preprocess

from ..conftest import decibels, model_from_text, run

NORMALISATIONS = [
    pytest.param((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), id="by channel"),
    pytest.param((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), id="a mean between two pixels"),
    pytest.param((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255), id="not normalised"),
]


def pixels(count: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(("mean", "std"), NORMALISATIONS)
def test_the_function_stays_the_same(
    residual: onnx.ModelProto, tmp_path: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    prepared = prepare(saved(residual, tmp_path))
    through = exact_pixels(prepared, mean, std)
    assert through is not None
    inputs = Preprocess(mean, std)(pixels(4, seed=0))
    wanted = run(prepared, inputs)
    np.testing.assert_allclose(run(through, inputs), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("mean", "std"), NORMALISATIONS)
def test_the_codes_of_the_input_are_its_pixels(
    residual: onnx.ModelProto, tmp_path: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    path, seen = saved(residual, tmp_path), pixels(32, seed=1)
    inputs = Preprocess(mean, std)(seen)
    quantize(path, tmp_path / "int8.onnx", inputs, pixels=(mean, std))
    model = onnx.load(tmp_path / "int8.onnx")
    codes = f"{PIXELS}_quantized"
    model.graph.output.append(onnx.helper.make_tensor_value_info(codes, onnx.TensorProto.UINT8, ["N", 3, 10, 10]))
    del model.graph.output[0]
    found = run(model, inputs)
    assert np.array_equal(found[:, :, 1:-1, 1:-1].transpose(0, 2, 3, 1), seen)
    assert np.array_equal(np.unique(found[:, 1, 0]), [np.floor(255 * mean[1] + 0.5)])


def test_less_is_lost_than_by_one_scale_for_all_channels(residual: onnx.ModelProto, tmp_path: Path) -> None:
    mean, std = (0.6, 0.3, 0.4), (0.1, 0.3, 0.2)
    path, inputs = saved(residual, tmp_path), Preprocess(mean, std)(pixels(32, seed=2))
    quantize(path, tmp_path / "blind.onnx", inputs, correct_bias="none")
    quantize(path, tmp_path / "exact.onnx", inputs, correct_bias="none", pixels=(mean, std))
    float_logits = run(path, inputs)
    blind, exact = (decibels(float_logits, run(tmp_path / f"{name}.onnx", inputs)) for name in ("blind", "exact"))
    assert exact > blind + 0.5


def test_a_first_convolution_that_stays_float_reads_the_input_as_it_is(
    residual: onnx.ModelProto, tmp_path: Path
) -> None:
    path, inputs = saved(residual, tmp_path), Preprocess((0.5,) * 3, (0.5,) * 3)(pixels(32, seed=3))
    first = str(prepare(path).graph[0].name)
    quantize(path, tmp_path / "a.onnx", inputs, keep_float=[first], pixels=((0.5,) * 3, (0.5,) * 3))
    quantize(path, tmp_path / "b.onnx", inputs, keep_float=[first])
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    "body",
    [
        "a (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Relu (x)\n y = Conv (c, w) }",
        "b (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv (x, w)\n d = Conv (x, w)\n y = Add (c, d) }",
        'c (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv <auto_pad = "SAME_UPPER"> (x, w) }',
    ],
)
def test_other_beginnings_are_left_alone(body: str) -> None:
    model = ir.from_proto(model_from_text(body, {"w": (4, 3, 1, 1)}, seed=0))
    assert exact_pixels(model, (0.5,) * 3, (0.5,) * 3) is None
