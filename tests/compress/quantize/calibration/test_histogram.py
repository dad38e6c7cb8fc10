from __future__ import annotations

import math

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.histogram import BINS, bin_exponent, bin_number, merged, rebinned
from hypothesis import given
from hypothesis import strategies as st

from .test_tally import histogram_of

numbers = st.floats(-1e6, 1e6, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(a=numbers, b=numbers)
def test_bins_are_as_fine_as_promised(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    exponent = bin_exponent(low, high)
    bins = bin_number(high, exponent) - bin_number(low, exponent) + 1
    assert bins <= BINS
    digits_end = math.ldexp(1.0, exponent) <= max(abs(low), abs(high)) * 2**-21
    assert bins > BINS // 2 or digits_end or low == high


@given(inner=st.tuples(numbers, numbers), outer=st.tuples(numbers, numbers))
def test_a_wider_range_never_has_finer_bins(inner: tuple[float, float], outer: tuple[float, float]) -> None:
    narrow = sorted(inner)
    wide = min(narrow[0], *outer), max(narrow[1], *outer)
    assert bin_exponent(*wide) >= bin_exponent(narrow[0], narrow[1])


def test_rebinning_adds_neighbours() -> None:
    # Bins of 1 from -3 on; over 0..8191 they become bins of 2 that begin at multiples of 2.
    counts, first, exponent = rebinned(np.array([1, 2, 3, 4, 5]), -3, 0, (-3.0, 8000.0))
    assert (first, exponent) == (-2, 1)
    assert counts[:4].tolist() == [1, 2 + 3, 4 + 5, 0]
    assert counts.sum() == 15


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-30, 2.0**-140])
def test_a_constant_has_one_bin_around_it(value: float) -> None:
    found = histogram_of(np.full((2, 3, 4, 4), value, np.float32))
    assert found.low == found.high == np.float32(value)
    assert found.counts.tolist() == [96]
    assert found.centers.tolist() == [np.float32(value)]
    assert found.dead_channels == 3


def test_merging_tensors_is_counting_them_as_one() -> None:
    rng = np.random.default_rng(0)
    small, large = (rng.normal(size=(4, 2, 8, 8)).astype(np.float32) * scale for scale in (0.01, 30.0))
    both = merged([histogram_of(small), histogram_of(large)])
    whole = histogram_of(np.concatenate([small, large], axis=1))
    assert (both.low, both.high, both.first, both.exponent) == (whole.low, whole.high, whole.first, whole.exponent)
    np.testing.assert_array_equal(both.counts, whole.counts)
    np.testing.assert_array_equal(both.channel_lows, whole.channel_lows)
    assert both.values == whole.values == 1024


def test_channels_are_not_called_dead_where_each_was_seen_once() -> None:
    assert histogram_of(np.ones((1, 5, 1, 1), np.float32)).dead_channels == 0
    assert histogram_of(np.ones((2, 5, 1, 1), np.float32)).dead_channels == 5
