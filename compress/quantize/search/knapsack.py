"""Choose one option for every item: least loss at each total cost (multiple-choice knapsack, Sinha & Zoltners 1979).

HAQ (Wang et al. 2019) gives a network a budget and an agent that spends it layer by layer. Where losses nearly add up
over layers, dynamic programming spends the same budget optimally and at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 4096
"""Grid of the costs between the cheapest and the dearest choice."""


@dataclass(frozen=True)
class Option:
    cost: float
    loss: float


@dataclass(frozen=True)
class Choice:
    picks: tuple[int, ...]
    """Number of the option taken, by item."""
    cost: float
    loss: float


def frontier(items: Sequence[Sequence[Option]], *, unit: float | None = None) -> tuple[Choice, ...]:
    """Choices of which none is worse than another in both cost and loss, cheapest first.

    Costs are counted in units above each item's cheapest option, rounded up, so that a choice never costs more than
    it is taken to; without `unit` the whole range of costs has `STEPS` of them.
    """
    cheapest = [min(option.cost for option in options) for options in items]
    dearest = [max(option.cost for option in options) for options in items]
    span = sum(dearest) - sum(cheapest)
    unit = unit or (span / STEPS if span > 0 else 1.0)
    steps = [
        [math.ceil((option.cost - low) / unit - 1e-9) for option in options]
        for options, low in zip(items, cheapest, strict=True)
    ]
    room = sum(max(of_item) for of_item in steps) + 1
    least = np.full(room, np.inf)
    least[0] = 0.0
    taken: list[np.ndarray] = []
    for options, of_item in zip(items, steps, strict=True):
        best, pick = np.full(room, np.inf), np.zeros(room, np.int64)
        for number, (option, step) in enumerate(zip(options, of_item, strict=True)):
            total = np.full(room, np.inf)
            total[step:] = least[: room - step] + option.loss
            better = total < best
            best[better], pick[better] = total[better], number
        least = best
        taken.append(pick)
    choices, loss = [], np.inf
    for cost in range(room):
        if least[cost] < loss:
            loss = float(least[cost])
            choices.append(_choice(items, _picks(taken, steps, cost)))
    return tuple(choices)


def choose(items: Sequence[Sequence[Option]], budget: float, *, unit: float | None = None) -> Choice | None:
    """The least loss at a total cost of at most `budget`; None where even the cheapest options cost more."""
    affordable = [choice for choice in frontier(items, unit=unit) if choice.cost <= budget]
    return affordable[-1] if affordable else None


def _picks(taken: Sequence[np.ndarray], steps: Sequence[Sequence[int]], cost: int) -> tuple[int, ...]:
    picks = []
    for pick, of_item in zip(reversed(taken), reversed(steps), strict=True):
        number = int(pick[cost])
        picks.append(number)
        cost -= of_item[number]
    return tuple(reversed(picks))


def _choice(items: Sequence[Sequence[Option]], picks: tuple[int, ...]) -> Choice:
    options = [of_item[number] for of_item, number in zip(items, picks, strict=True)]
    return Choice(picks, sum(option.cost for option in options), sum(option.loss for option in options))
