"""Toy ONNX models written as text, with seeded random weights, and ways to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime
import pytest

Weights = Mapping[str, tuple[int, ...]]


def model_from_text(body: str, weights: Weights, *, seed: int, positive: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A model of one graph text plus float32 initializers drawn from a normal distribution."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {body}')
    rng = np.random.default_rng(seed)
    for name, shape in weights.items():
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        array = (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)
        if name in positive:
            array = np.abs(array) + np.float32(0.5)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto | ir.Model | Path, images: np.ndarray) -> np.ndarray:
    if isinstance(model, ir.Model):
        model = ir.to_proto(model)
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def images(count: int, shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def decibels(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise."""
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


RESIDUAL = """
residual (float[N,3,8,8] input) => (float[N,10] logits) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <pads = [1,1,1,1]> (r0, w1, b1)
  six = Constant <value_float = 6.0> ()
  zero = Constant <value_float = 0.0> ()
  r1 = Clip (c1, zero, six)
  c2 = Conv <pads = [1,1,1,1]> (r1, w2, b2)
  sum = Add (c2, r0)
  r2 = Relu (sum)
  m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r2)
  p = GlobalAveragePool (m)
  f = Flatten (p)
  logits = Gemm <transB = 1> (f, w3, b3)
}
"""
RESIDUAL_WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,),
    "w3": (10, 8), "b3": (10,),
}  # fmt: skip


@pytest.fixture
def residual() -> onnx.ModelProto:
    """Convolutions, a residual sum, pooling and a classifier: what a small ResNet is made of."""
    return model_from_text(RESIDUAL, RESIDUAL_WEIGHTS, seed=0)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def write(model: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return write
