from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.weights import BIAS_LIMIT, quantize_bias, quantize_weight, weight_scales
from hypothesis import given
from hypothesis import strategies as st


@given(seed=st.integers(0, 10**6), axis=st.sampled_from([None, 0, 1]), limit=st.sampled_from([64, 127]))
def test_rounding_error_is_at_most_half_a_step(seed: int, axis: int | None, limit: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(3, 4, 2, 2)).astype(np.float32)
    scales = weight_scales(weight, axis, limit=limit, bias=None, input_scale=0.1)
    codes = quantize_weight(weight, scales, axis, limit=limit)
    shape = [1, 1, 1, 1]
    if axis is not None:
        shape[axis] = -1
    step = scales.reshape(shape).astype(np.float64)
    assert np.abs(codes).max() == limit
    assert (np.abs(codes * step - weight) <= step * 0.5001).all()


def test_dead_channels_keep_their_bias() -> None:
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0] = 1.0
    bias = np.array([0.5, -7.25], np.float32)
    scales = weight_scales(weight, 0, limit=127, bias=bias, input_scale=0.02)
    codes = quantize_bias(bias, np.float32(0.02) * scales)
    assert np.abs(codes).max() <= BIAS_LIMIT * 1.01
    np.testing.assert_allclose(codes * (np.float32(0.02) * scales), bias, rtol=1e-3)


def test_bias_of_almost_dead_channel_does_not_overflow() -> None:
    weight = np.full((1, 1, 1, 1), 1e-12, np.float32)
    bias = np.array([3.0], np.float32)
    scales = weight_scales(weight, 0, limit=127, bias=bias, input_scale=0.02)
    codes = quantize_bias(bias, np.float32(0.02) * scales)
    assert codes[0] * np.float32(0.02) * scales[0] == pytest.approx(3.0, rel=1e-6)
