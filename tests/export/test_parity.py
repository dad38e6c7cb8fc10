"""Parity passes what is equal and names what is not."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from edgelathe.errors import EdgeLatheError
from edgelathe.export.parity import check_parity, onnx_runner, torch_reference
from torch import nn

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


def save(path: Path, body: str, signature: str = "(float[N,3] x) => (float[N,3] y)") -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {signature} {body}'), path)
    return path


def double(x: np.ndarray) -> np.ndarray:
    return 2 * x


def test_equal_outputs_pass(tmp_path: Path) -> None:
    parity = check_parity(double, save(tmp_path / "m.onnx", "{ y = Add(x, x) }"), X, batches=(1, 2, 4), tolerance=1e-7)
    assert (parity.passed, parity.reason, parity.worst_absolute, parity.relative) == (True, "", 0.0, 0.0)
    assert parity.agreement == 1.0
    assert parity.scale == pytest.approx(float(np.ptp(2 * X)))
    assert [(result.batch, result.inputs) for result in parity.batches] == [(1, 6), (2, 6), (4, 4)]


def test_error_is_relative_to_the_spread(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "<float[1] c = {0.5}> { a = Add(x, x)  y = Add(a, c) }")
    expected = 0.5 / float(np.ptp(2 * X))
    parity = check_parity(double, path, X, batches=(6,), tolerance=expected * 0.99)
    assert not parity.passed
    assert parity.relative == pytest.approx(expected, rel=1e-5)
    assert parity.worst_absolute == pytest.approx(0.5, rel=1e-5)
    assert parity.reason.startswith("batch 6: outputs are off by 0.0")
    assert check_parity(double, path, X, batches=(6,), tolerance=expected * 1.01).passed


def test_a_large_common_offset_does_not_hide_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "<float[1] c = {1000}> { a = Add(x, c)  y = Neg(a) }")
    parity = check_parity(lambda x: x + 1000, path, X, batches=(1,), tolerance=0.1)
    assert parity.relative > 1


def test_agreement_counts_the_argmax(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Abs(x) }")
    parity = check_parity(lambda x: x, path, X, batches=(1, 6), tolerance=10.0)
    assert parity.passed
    assert parity.agreement == float((np.abs(X).argmax(1) == X.argmax(1)).mean()) < 1


def test_wrong_only_for_batches(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "<int64[1] axes = {0}> { m = ReduceMean(x, axes)  y = Sub(x, m) }")
    parity = check_parity(lambda x: x - x, path, X, batches=(1, 3), tolerance=1e-3)
    assert parity.batches[0].reason.startswith("batch 1: the outputs are the same for all inputs")
    assert parity.batches[1].reason == "batch 3: outputs are off by inf of their spread, more than 0.001"
    assert math.isinf(parity.relative)


def test_not_finite(tmp_path: Path) -> None:
    parity = check_parity(double, save(tmp_path / "m.onnx", "{ y = Log(x) }"), X, batches=(2,), tolerance=1.0)
    first = int(np.argwhere(X <= 0)[0][0])
    assert parity.reason == f"batch 2: input {first} gives NaN or infinite outputs"
    assert math.isinf(parity.relative)
    assert parity.agreement == 0.0


def test_constant_output(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "<float[1] zero = {0}> { a = Mul(x, zero)  y = Abs(a) }")
    parity = check_parity(lambda x: 0.001 * x, path, X, batches=(2,), tolerance=10.0)
    assert parity.reason == "batch 2: the outputs are the same for all inputs"


def test_constant_output_of_equal_inputs_is_fine(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Add(x, x) }")
    assert check_parity(double, path, X[:1].repeat(4, axis=0), batches=(4,), tolerance=1e-6).passed


def test_fixed_batch_fails_at_other_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Add(x, x) }", "(float[2,3] x) => (float[2,3] y)")
    parity = check_parity(double, path, X, batches=(2, 3), tolerance=1e-6)
    assert [bool(result.reason) for result in parity.batches] == [False, True]
    assert parity.reason.startswith("batch 3: it does not run: ")
    assert not parity.passed


def test_other_shape(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", "<int64[1] axes = {1}> { y = ReduceMean(x, axes) }", "(float[N,3] x) => (float[N,1] y)"
    )
    parity = check_parity(double, path, X, batches=(2,), tolerance=1.0)
    assert parity.reason == "batch 2: outputs have shape [6, 1], expected [6, 3]"


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_reference_not_finite(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Add(x, x) }")
    parity = check_parity(lambda x: x / 0 * 0, path, X, batches=(1,), tolerance=1.0)
    assert (parity.passed, parity.reason) == (False, "the reference itself gives NaN or infinite outputs")


@pytest.mark.parametrize(
    "batches, tolerance, message",
    [
        ((), 1.0, "Cannot use batches = (): it must be batch sizes of at least 1."),
        ((0,), 1.0, "Cannot use batches = (0,): it must be batch sizes of at least 1."),
        ((1,), 0.0, "Cannot use tolerance = 0.0: it must be a number greater than 0."),
        ((1,), math.nan, "Cannot use tolerance = nan: it must be a number greater than 0."),
        ((1, 7), 1.0, "Cannot compare the exported model at batch 7 with 6 inputs: give at least 7 inputs, or smaller"),
    ],
)
def test_impossible_settings(batches: tuple[int, ...], tolerance: float, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Add(x, x) }")
    with pytest.raises(EdgeLatheError, match=f"^{re.escape(message)}"):
        check_parity(double, path, X, batches=batches, tolerance=tolerance)


def test_reference_with_too_few_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "{ y = Add(x, x) }")
    with pytest.raises(EdgeLatheError, match=r"output has shape \[3\] for 6 inputs"):
        check_parity(lambda x: x.sum(axis=0), path, X, batches=(1,), tolerance=1.0)


def test_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the model"):
        check_parity(double, tmp_path / "m.onnx", X, batches=(1,), tolerance=1.0)


def test_operator_the_runtime_lacks(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 18, "their.own" : 1]> g (float[N,3] x) => (float[N,3] y)'
    onnx.save(onnx.parser.parse_model(text + "{ y = their.own.Magic(x) }"), tmp_path / "m.onnx")
    parity = check_parity(double, tmp_path / "m.onnx", X, batches=(1,), tolerance=1.0)
    assert parity.reason.startswith("onnxruntime cannot load the file: ")
    assert not parity.passed


def test_torch_reference_evaluates_and_restores_the_mode(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9), nn.BatchNorm1d(3))
    model[1].eval()
    reference = torch_reference(model, batch=4)
    first = reference(X)
    assert first.shape == (6, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, reference(X))
    assert [module.training for module in model] == [True, False, True]
    assert model[2].num_batches_tracked == 0
    model.eval()
    with torch.no_grad():
        np.testing.assert_allclose(first, model(torch.from_numpy(X)).numpy(), rtol=0, atol=1e-6)


def test_onnx_runner_takes_views(tmp_path: Path) -> None:
    run = onnx_runner(save(tmp_path / "m.onnx", "{ y = Add(x, x) }"))
    np.testing.assert_array_equal(run(X[::2]), 2 * X[::2])
