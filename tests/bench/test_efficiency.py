from __future__ import annotations

import pytest
from edgelathe.bench.efficiency import compression, performance_efficiency, retention
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st

SHARES = st.floats(0.01, 1.0)
SIZES = st.integers(1, 10**9)


def test_figures_computed_by_hand() -> None:
    assert retention(0.90, 0.95) == pytest.approx(0.947368, abs=1e-6)
    assert compression(250_000, 1_000_000) == 4.0
    assert performance_efficiency(0.90, 0.95, 250_000, 1_000_000) == pytest.approx(3.789474, abs=1e-6)
    assert performance_efficiency(0.50, 1.00, 1_000, 100_000) == pytest.approx(50.0)  # why it never ranks alone


@given(accuracy=SHARES, size=SIZES)
def test_the_reference_itself_scores_one(accuracy: float, size: int) -> None:
    assert performance_efficiency(accuracy, accuracy, size, size) == 1.0


@given(low=SHARES, high=SHARES, reference=SHARES, size=SIZES, reference_size=SIZES)
def test_it_grows_with_accuracy(low: float, high: float, reference: float, size: int, reference_size: int) -> None:
    low, high = sorted((low, high))
    worse, better = (performance_efficiency(each, reference, size, reference_size) for each in (low, high))
    assert worse <= better and (worse < better or high / low < 1 + 1e-9)


@given(accuracy=SHARES, reference=SHARES, small=SIZES, large=SIZES, reference_size=SIZES)
def test_it_grows_with_compression(
    accuracy: float, reference: float, small: int, large: int, reference_size: int
) -> None:
    small, large = sorted((small, large))
    better, worse = (performance_efficiency(accuracy, reference, each, reference_size) for each in (small, large))
    assert worse <= better and (worse < better or small == large)


@given(accuracy=SHARES, reference=SHARES, size=SIZES, reference_size=SIZES)
def test_shares_and_percents_give_the_same(accuracy: float, reference: float, size: int, reference_size: int) -> None:
    in_percent = performance_efficiency(100 * accuracy, 100 * reference, size, reference_size)
    assert in_percent == pytest.approx(performance_efficiency(accuracy, reference, size, reference_size), rel=1e-12)


def test_nothing_left_is_refused() -> None:
    with pytest.raises(EdgeLatheError, match=r"^Cannot say how efficient a network is whose size is 0: "):
        performance_efficiency(0.9, 0.95, 0, 1_000)
    with pytest.raises(EdgeLatheError, match=r"^Cannot say how efficient .* whose reference's accuracy is 0: "):
        performance_efficiency(0.9, 0.0, 100, 1_000)
