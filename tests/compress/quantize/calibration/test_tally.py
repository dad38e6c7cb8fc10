from __future__ import annotations

import math

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.histogram import Histogram
from edgelathe.compress.quantize.calibration.tally import DECAY, Tally, sampling_step
from hypothesis import given
from hypothesis import strategies as st


def histogram_of(values: np.ndarray, *, parts: int = 1, axis: int = 1, step: int = 1) -> Histogram:
    """Of float32 [N, C, ...], counted in `parts` chunks of images."""
    tally = Tally(axis, step)
    for part in np.array_split(values, parts):
        if len(part):
            assert tally.add(np.ascontiguousarray(part), len(part)) is None
    return tally.result()


@st.composite
def activations(draw: st.DrawFn) -> np.ndarray:
    """float32 [N, 3, 4, 5] whose images differ in size by up to a million times, some after a Relu."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.integers(2, 9))
    spread = 10.0 ** rng.uniform(-3, 3, (images, 1, 1, 1))
    values = (rng.normal(size=(images, 3, 4, 5)) * spread + draw(st.sampled_from([0.0, 5.0]))).astype(np.float32)
    return np.maximum(values, 0) if draw(st.booleans()) else values


def assert_same(one: Histogram, other: Histogram) -> None:
    assert (one.low, one.high, one.first, one.exponent) == (other.low, other.high, other.first, other.exponent)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.channel_lows, other.channel_lows)
    np.testing.assert_array_equal(one.channel_highs, other.channel_highs)
    assert (one.images, one.values) == (other.images, other.values)


@given(values=activations(), parts=st.integers(1, 9))
def test_statistics_do_not_depend_on_the_partition(values: np.ndarray, parts: int) -> None:
    whole, split = histogram_of(values), histogram_of(values, parts=parts)
    assert_same(whole, split)
    assert whole.averaged == split.averaged


@given(values=activations(), seed=st.integers(0, 99))
def test_counts_do_not_depend_on_the_order(values: np.ndarray, seed: int) -> None:
    shuffled = values[np.random.default_rng(seed).permutation(len(values))]
    assert_same(histogram_of(values, parts=len(values)), histogram_of(shuffled, parts=len(values)))


@given(values=activations())
def test_counts_are_those_of_a_second_pass_with_known_edges(values: np.ndarray) -> None:
    found = histogram_of(values, parts=len(values))
    edges = np.ldexp(found.first + np.arange(len(found.counts) + 1.0), found.exponent)
    expected, _ = np.histogram(values.astype(np.float64), edges)
    np.testing.assert_array_equal(found.counts, expected)
    assert (found.low, found.high) == (values.min(), values.max())
    np.testing.assert_array_equal(found.channel_lows, values.min((0, 2, 3)))
    np.testing.assert_array_equal(found.channel_highs, values.max((0, 2, 3)))


def test_long_tensors_are_counted_whole() -> None:
    values = np.random.default_rng(1).normal(size=(3, 2, 301, 307)).astype(np.float32)
    found = histogram_of(values, parts=2)
    edges = np.ldexp(found.first + np.arange(len(found.counts) + 1.0), found.exponent)
    np.testing.assert_array_equal(found.counts, np.histogram(values.astype(np.float64), edges)[0])
    np.testing.assert_array_equal(found.channel_lows, values.min((0, 2, 3)))


def test_the_moving_average_is_that_of_each_images_extrema() -> None:
    values = np.random.default_rng(2).normal(size=(50, 2, 3, 3)).astype(np.float32)
    weights = DECAY ** np.arange(49, -1, -1)
    extrema = values.reshape(50, -1).min(1), values.reshape(50, -1).max(1)
    expected = [float((weights * one).sum() / weights.sum()) for one in extrema]
    assert histogram_of(values, parts=7).averaged == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3, 40, 40), (4, 7)])
def test_the_image_that_is_not_finite_is_found(bad: float, shape: tuple[int, ...]) -> None:
    values = np.zeros(shape, np.float32)
    values.reshape(4, -1)[2, 5] = bad
    assert Tally(1, 1).add(values, 4) == 2


def test_channels_of_matrix_products_come_last() -> None:
    values = np.random.default_rng(3).normal(size=(4, 6, 5)).astype(np.float32)
    found = histogram_of(values, axis=-1)
    np.testing.assert_array_equal(found.channel_highs, values.max((0, 1)))
    windows = Tally(-1, 1)
    assert windows.add(values, 2) is None  # two windows to an image
    assert windows.result().images == 2
    assert windows.result().averaged != found.averaged


def test_extrema_are_those_of_all_values_when_only_some_are_counted() -> None:
    values = np.random.default_rng(4).normal(size=(3, 4, 16, 16)).astype(np.float32)
    values[1, 2, 3, 4] = 99.0
    found = histogram_of(values, step=3)
    assert found.high == 99.0
    assert (found.values, found.samples) == (3072, 3 * 342)


@pytest.mark.parametrize(("values", "samples"), [(10, 10), (11, 10), (10**6, 1000), (5, 10), (2**21, 2**20)])
@pytest.mark.parametrize("period", [1, 7, 96 * 112 * 112, 30030])
def test_sampling_steps_meet_every_column(values: int, samples: int, period: int) -> None:
    step = sampling_step(values, samples, period)
    assert step >= 1
    assert values / step <= samples
    assert math.gcd(step, period) == 1
