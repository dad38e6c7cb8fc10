"""Widths at which a network takes a share of its latency, found with few measurements.

Latency is read at a few steps of a ladder of widths and taken to be straight between them, over MACs; what was read
twice within the tolerance is the answer. Latency need not fall at every step, nor two readings of a step be equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from ... import errors
from .targets import first_within

TOLERANCE = 0.05
"""How far from the target, as a share of it, a latency counts as hit."""
AIM = 0.025
"""How near it is searched: half the tolerance is left to the noise of measurements."""
MEASUREMENTS = 12


@dataclass(frozen=True)
class Found:
    step: int
    whole: float
    latency: float
    """Mean of what was measured at `step`."""
    trials: tuple[tuple[int, float], ...]
    """Each measurement: step and latency, the first of the whole network."""
    reachable: bool
    """False where nothing that was measured is within the target."""
    least: float
    """The lowest latency that was measured, over all steps."""


def find_step(measure: Callable[[int], float], macs: Callable[[int], int], last: int, keep: float) -> Found:
    """The step, of 0 (the whole network) to `last`, whose latency is `keep` times that of step 0.

    measure -- latency of the network at a step, in any unit; called MEASUREMENTS times at most, and at least twice for
               the step that is chosen.
    macs    -- MACs at a step; they never rise.

    Where no step lies within TOLERANCE of the target, the widest one below it is chosen. Raises EdgeLatheError when
    `measure` returns anything but a positive number.
    """
    search = _Search(measure, macs, last)
    search.look(0)
    if keep == 1 or last == 0:
        return search.found(0, reachable=keep == 1)
    search.limit = keep * search.latency(0)
    while True:
        slow, fast = search.bracket()
        nearest = min(search.read, key=lambda step: abs(search.off(step)))
        settled = abs(search.off(nearest)) <= AIM or slow + 1 == (last + 1 if fast is None else fast)
        reserve = len(search.trials) == MEASUREMENTS - 1
        if not settled and not reserve:
            search.look(search.between(slow, fast))
            continue
        chosen = nearest
        if abs(search.off(nearest)) > TOLERANCE:
            chosen = slow if fast is None else fast
        if len(search.read[chosen]) > 1 or len(search.trials) == MEASUREMENTS:
            return search.found(chosen, reachable=search.off(chosen) <= TOLERANCE)
        search.look(chosen)


class _Search:
    def __init__(self, measure: Callable[[int], float], macs: Callable[[int], int], last: int) -> None:
        self._measure, self._macs, self._last = measure, macs, last
        self.read: dict[int, list[float]] = defaultdict(list)
        self.trials: list[tuple[int, float]] = []
        self.limit = math.inf

    def look(self, step: int) -> None:
        latency = float(self._measure(step))
        if not (math.isfinite(latency) and latency > 0):
            raise errors.prune.bad_measurement(latency)
        self.read[step].append(latency)
        self.trials.append((step, latency))

    def latency(self, step: int) -> float:
        return fmean(self.read[step])

    def off(self, step: int) -> float:
        return self.latency(step) / self.limit - 1

    def bracket(self) -> tuple[int, int | None]:
        """The first step read below the limit, if any, and the last one before it that was read above."""
        fast = min((step for step in self.read if self.off(step) <= 0), default=None)
        return max(step for step in self.read if fast is None or step < fast), fast

    def between(self, slow: int, fast: int | None) -> int:
        """A step between two that were read, where the line through them meets the limit."""
        here, there = (slow, self._macs(slow)), None
        if fast is not None:
            there = (fast, self._macs(fast))
        elif slow > 0:
            there = (0, self._macs(0))
        # Without a second reading, latency is taken to be proportional to MACs.
        x, y = (0, 0.0) if there is None else (there[1], self.latency(there[0]))
        slope = (self.latency(slow) - y) / (here[1] - x) if here[1] != x else 0.0
        wanted = here[1] + (self.limit - self.latency(slow)) / slope if slope > 0 else -math.inf
        if fast is None:  # narrower by half of what can go at most: widths that are slower for their MACs are common
            wanted = max(wanted, (here[1] + self._macs(self._last)) / 2)
        if fast is not None and there is not None:
            margin = 0.1 * (here[1] - there[1])
            wanted = min(max(wanted, there[1] + margin), here[1] - margin)
        step = first_within(self._last, self._macs, wanted)
        end = self._last if fast is None else fast - 1
        return min(max(end if step is None else step, slow + 1), end)

    def found(self, step: int, *, reachable: bool) -> Found:
        least = min(self.latency(step) for step in self.read)
        return Found(step, self.latency(0), self.latency(step), tuple(self.trials), reachable, least)
