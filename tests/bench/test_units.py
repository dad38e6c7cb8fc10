from __future__ import annotations

import pytest
from edgelathe.bench import units
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (78_123, "78.1 kB"),
        (318_000, "318 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (24_000_000_000, "24.0 GB"),
    ],
)
def test_bytes(value: int, text: str) -> None:
    assert units.in_bytes(value) == text


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (78_000, "78.0 k"), (12_345_678, "12.3 M")])
def test_counts(value: int, text: str) -> None:
    assert units.in_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123 ms"), (0.09996, "0.100 ms"), (9.996, "10.0 ms"), (12.34, "12.3 ms"), (1200.0, "1.20 s")],
)
def test_milliseconds(value: float, text: str) -> None:
    assert units.in_ms(value) == text


def test_percentages_carry_two_decimals_from_ten_thousand_images() -> None:
    assert units.in_percent(0.91234, 1000) == "91.2 %"
    assert units.in_percent(0.91234, 10_000) == "91.23 %"


def test_points_have_a_sign_and_no_negative_zero() -> None:
    assert units.in_points(-0.55) == "-0.6 pt"
    assert units.in_points(0.31) == "+0.3 pt"
    assert units.in_points(-0.01) == "0.0 pt"


def test_small_ratios_keep_two_significant_digits() -> None:
    assert units.in_ratio(0.4012) == "0.40 x"
    assert units.in_ratio(0.0834) == "0.083 x"


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_three_significant_digits_are_within_half_a_percent(value: float) -> None:
    text = units.significant(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=5.01e-3)
