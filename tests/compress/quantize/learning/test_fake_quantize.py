from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgelathe.compress.quantize.learning.fake_quantize import fake_quantize, straight_through
from hypothesis import given
from hypothesis import strategies as st

ROUND_TRIP = """<ir_version: 8, opset_import: ["" : 18]>
round_trip (float[N] x, float s, uint8 z) => (float[N] y) {
  q = QuantizeLinear (x, s, z)
  y = DequantizeLinear (q, s, z)
}
"""


@pytest.fixture(scope="module")
def runtime() -> onnxruntime.InferenceSession:
    model = onnx.parser.parse_model(ROUND_TRIP)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    scale=st.floats(2**-12, 2**6, width=32),
    zero_point=st.integers(0, 255),
)
def test_rounds_bit_by_bit_as_the_runtime_does(
    runtime: onnxruntime.InferenceSession, values: list[float], scale: float, zero_point: int
) -> None:
    x = np.array(values, np.float32)
    feeds = {"x": x, "s": np.array(scale, np.float32), "z": np.array(zero_point, np.uint8)}
    (wanted,) = runtime.run(None, feeds)
    got = fake_quantize(torch.from_numpy(x), torch.tensor(scale), -zero_point, 255 - zero_point)
    np.testing.assert_array_equal(got.numpy(), wanted)


def test_halves_go_to_even_codes() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert fake_quantize(x, torch.tensor(1.0), -128, 127).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


def test_gradients_are_those_of_the_straight_through_estimator_and_of_learned_steps() -> None:
    x = torch.tensor([0.3, 0.8, 9.0, -4.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    weights = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    (fake_quantize(x, scale, -2, 5, step_gradient=0.25) * weights).sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [1.0, 10.0, 0.0, 0.0]
    # q - x / s inside: 1 - 0.6 and 2 - 1.6; the last code outside: 5 and -2
    assert float(scale.grad) == pytest.approx(0.25 * (0.4 + 4.0 + 500.0 - 2000.0), rel=1e-5)


def test_every_channel_has_its_own_step() -> None:
    x = torch.tensor([[0.3, 0.6], [0.3, 0.6]], requires_grad=True)
    scale = torch.tensor([[0.5], [0.2]], requires_grad=True)
    result = fake_quantize(x, scale, -2, 2)
    assert torch.allclose(result, torch.tensor([[0.5, 0.5], [0.4, 0.4]]))
    result.sum().backward()
    assert scale.grad is not None
    assert torch.allclose(scale.grad, torch.tensor([[0.4 - 0.2], [0.5 + 2.0]]), atol=1e-5)


def test_a_step_that_is_not_learned_gets_no_gradient() -> None:
    x, scale = torch.ones(3, requires_grad=True), torch.tensor(0.3)
    fake_quantize(x, scale, -2, 2).sum().backward()
    assert scale.grad is None


def test_straight_through_has_one_value_and_the_others_gradient() -> None:
    x = torch.tensor([1.2, -3.4], requires_grad=True)
    result = straight_through(x, torch.round(x) * 100.0)
    assert torch.allclose(result, torch.tensor([100.0, -300.0]))
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]
