from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.calibrate import BINS, Histogram
from edgelathe.compress.quantize.ranges import _error, affine, minmax, mse, percentile
from hypothesis import given
from hypothesis import strategies as st


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, bins=BINS, range=(low, high))[0])


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
    assert low == 0.0 or low < 0.03
    assert 0.99 <= high <= 1.05


@pytest.mark.parametrize("seed", range(5))
def test_mse_is_never_worse_than_minmax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = histogram(rng.standard_t(df=3, size=20_000))
    assert _error(found, *mse(found)) <= _error(found, *minmax(found))


def test_mse_clips_a_rare_outlier_and_keeps_flat_tails() -> None:
    # One value of 2 among a million in 0..1: clipping it costs 1, doubling every step costs about 4.
    values = np.random.default_rng(1).uniform(0, 1, 10**6)
    flat = histogram(values)
    assert mse(flat)[1] == pytest.approx(1.0, rel=0.01)
    values[0] = 2.0
    assert mse(histogram(values))[1] == pytest.approx(1.0, rel=0.03)


def test_constant_tensors_have_a_range() -> None:
    constant = Histogram(0.0, 0.0, np.eye(1, BINS, dtype=np.int64)[0])
    for method in (minmax, percentile, mse):
        assert affine(*method(constant)) == (1.0, 0)
