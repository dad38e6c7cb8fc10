from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.affine import affine
from edgelathe.compress.quantize.calibration.squared_error import mse, squared_error

from .test_ranges import histogram


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.2, 3.0), (0.0, 0.7), (-9.0, 0.0)])
def test_the_error_is_that_of_every_value_written_as_its_code(seed: int, low: float, high: float) -> None:
    values = np.random.default_rng(seed).normal(size=20_000)
    scale, zero_point = affine(low, high)
    codes = np.clip(np.round(values / scale) + zero_point, 0, 255)
    expected = float((((codes - zero_point) * scale - values) ** 2).sum())
    assert squared_error(histogram(values), low, high) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_the_whole_range(seed: int) -> None:
    found = histogram(np.random.default_rng(seed).standard_t(df=3, size=20_000))
    assert squared_error(found, *mse(found)) <= squared_error(found, found.low, found.high)


def test_a_rare_outlier_is_clipped_and_flat_tails_are_kept() -> None:
    # One value of 2 among a million in 0..1: clipping it costs 1, doubling every step costs about 4.
    values = np.random.default_rng(1).uniform(0, 1, 10**6)
    assert mse(histogram(values))[1] == pytest.approx(1.0, rel=0.01)
    values[0] = 2.0
    assert mse(histogram(values))[1] == pytest.approx(1.0, rel=0.03)


def test_both_ends_are_chosen_apart() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.uniform(-1, 0.5, 10**6), [3.0]])
    low, high = mse(histogram(values))
    assert low == pytest.approx(-1.0, rel=0.03)
    assert 0.48 < high < 1.5
