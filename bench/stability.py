"""Whether a latency measurement can be trusted, as sentences that say why not and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .stats import quartiles

FEW_ROUNDS = 10
FEW_PROCESSES = 3
WIDE_INTERVAL = 0.1
WIDE_IQR = 0.2
DRIFT = 0.2
SHARED = {True: 0.2, False: 0.05}
"""Share of the time that other work may take, on one core (where it is not counted, but spoils the caches) and on
several (where it counts)."""
SHORT_MS = 0.02


def reasons_for_doubt(
    bursts: Sequence[Sequence[float]],
    *,
    quartiles_ms: tuple[float, float, float],
    busy: Sequence[float],
    relative_width: float,
    one_core: bool,
) -> tuple[str, ...]:
    """Reasons not to trust a candidate's latency; none when it may be trusted.

    `bursts` are burst medians in ms by generation of processes, `busy` the share of each burst the process
    had its core for, `relative_width` the width of the ratio's interval over the ratio.
    """
    q1, median, q3 = quartiles_ms
    values = np.array([value for generation in bursts for value in generation])
    reasons: list[str] = []
    if len(values) < FEW_ROUNDS:
        reasons.append(f"only {len(values)} rounds were measured, fewer than {FEW_ROUNDS}: give more seconds")
    if len(bursts) < FEW_PROCESSES:
        reasons.append(
            f"only {len(bursts)} generation(s) of processes were measured, so that what differs from process "
            "to process is unknown: give more seconds"
        )
    if relative_width > WIDE_INTERVAL:
        reasons.append(
            f"the interval of the ratio is {100 * relative_width:.0f} % wide: give more seconds or a quieter machine"
        )
    if (q3 - q1) / median > WIDE_IQR:
        reasons.append(
            f"half of the runs spread over {100 * (q3 - q1) / median:.0f} % of the median (more than "
            f"{100 * WIDE_IQR:.0f} %): use a quieter machine"
        )
    drift = _drift(values)
    if abs(drift) > DRIFT:
        direction = "slower" if drift > 0 else "faster"
        reasons.append(
            f"the last third of the rounds was {abs(100 * drift):.0f} % {direction} than the first: "
            "the machine heats up or is shared, so the milliseconds hold for this moment only"
        )
    taken = 1 - quartiles(busy)[1] if len(busy) else 0.0
    if taken > SHARED[one_core]:
        reasons.append(
            f"other work held the processor core for {100 * taken:.0f} % of the time: stop it or choose other cores"
        )
    if median < SHORT_MS:
        reasons.append(
            f"one run takes {1000 * median:.0f} microseconds, of which calling the runtime from Python "
            "is a large part: measure a larger batch"
        )
    return tuple(reasons)


def _drift(values: np.ndarray) -> float:
    third = len(values) // 3
    return float(np.median(values[-third:]) / np.median(values[:third]) - 1) if third >= 3 else 0.0
