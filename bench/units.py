"""Quantities as people read them: three significant digits, decimal units, a blank before the unit."""

from __future__ import annotations

import math


def significant(value: float, digits: int = 3) -> str:
    """`value` with at least `digits` significant digits and never an exponent: 0.0123, 1.23, 12.3, 1230."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals = max(0, decimals - 1)
    return f"{rounded:.{decimals}f}"


def _scaled(value: float, steps: tuple[str, ...]) -> str:
    step = 0
    while step < len(steps) - 1 and abs(value) >= 999.5:
        value, step = value / 1000, step + 1
    number = str(round(value)) if step == 0 else significant(value)
    return f"{number} {steps[step]}".rstrip()


def in_bytes(value: float) -> str:
    """Bytes as 812 B, 78.1 kB, 3.40 MB (powers of 1000)."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def in_count(value: float) -> str:
    """A count as 812, 78.1 k, 12.3 M."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def in_ms(value: float) -> str:
    """Milliseconds as 0.123 ms, 12.3 ms, 1.20 s."""
    return f"{significant(value / 1000)} s" if value >= 999.5 else f"{significant(value)} ms"


def in_percent(share: float, total: int | None = None) -> str:
    """A fraction as a percentage, with two decimals only where `total` cases can carry them."""
    return f"{100 * share:.{percent_decimals(total)}f} %"


def percent_decimals(total: int | None) -> int:
    return 2 if total is not None and total >= 10_000 else 1


def in_points(points: float, decimals: int = 1) -> str:
    """A signed difference in percentage points: -0.6 pt."""
    return f"{signed(points, decimals)} pt"


def signed(value: float, decimals: int = 1) -> str:
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"


def in_ratio(ratio: float) -> str:
    return f"{ratio_digits(ratio)} x"


def ratio_digits(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else significant(ratio, 2)
