from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.affine import affine
from edgelathe.compress.quantize.calibration.histogram import Histogram
from edgelathe.compress.quantize.calibration.ranges import METHODS, Method, minmax, moving_average, percentile
from hypothesis import given
from hypothesis import strategies as st

from . import test_tally


def histogram(values: np.ndarray) -> Histogram:
    return test_tally.histogram_of(values.astype(np.float32).reshape(1, 1, -1))


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_zero_is_exact_and_the_range_is_covered(low: float, high: float) -> None:
    scale, zero_point = affine(low, high)
    assert scale > 0
    assert 0 <= zero_point <= 255
    assert (0 - zero_point) * scale <= low + scale * 0.51 + 1e-30
    assert (255 - zero_point) * scale >= high - scale * 0.51 - 1e-30


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 255.0, (1.0, 0)), (-1.0, 3.0, (4 / 255, 64)), (3.0, 5.1, (0.02, 0)), (0, 0, (1, 0))],
)
def test_affine_values(low: float, high: float, expected: tuple[float, int]) -> None:
    scale, zero_point = affine(low, high)
    assert scale == pytest.approx(expected[0], rel=1e-6)
    assert zero_point == expected[1]


def test_percentile_leaves_out_one_outlier_of_a_million() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 10**6)
    values[0] = 50.0
    low, high = percentile(histogram(values), 99.99)
    assert low < 0.03
    assert 0.99 <= high <= 1.05


def test_percentile_of_everything_is_minmax() -> None:
    found = histogram(np.random.default_rng(1).normal(size=1000))
    assert percentile(found, 100.0) == minmax(found) == (found.low, found.high)


def test_one_loud_image_moves_the_average_less_than_the_extrema() -> None:
    images = np.random.default_rng(2).uniform(-1, 1, (64, 1, 10, 10)).astype(np.float32)
    images[10] *= 100
    found = test_tally.histogram_of(images, parts=3)
    assert minmax(found)[1] > 90
    assert 1.5 < moving_average(found)[1] < 4.0


@pytest.mark.parametrize("method", METHODS)
def test_constant_tensors_have_a_range(method: Method) -> None:
    assert affine(*METHODS[method](histogram(np.zeros(10)))) == (1.0, 0)
    assert affine(*METHODS[method](histogram(np.full(10, 5.1)))) == (pytest.approx(0.02), 0)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10**6), shift=st.sampled_from([-3.0, 0.0, 3.0]), relu=st.booleans())
def test_ranges_lie_within_what_was_seen_and_zero(method: Method, seed: int, shift: float, relu: bool) -> None:
    values = np.random.default_rng(seed).standard_t(3, 500).astype(np.float32) + np.float32(shift)
    found = histogram(np.maximum(values, 0) if relu else values)
    low, high = METHODS[method](found)
    assert min(found.low, 0.0) <= low <= high <= max(found.high, 0.0)
