"""Means of the terms of a loss over an epoch, for the record."""

from __future__ import annotations

from torch import Tensor


class Means:
    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps: dict[str, int] = {}

    def add(self, **terms: Tensor) -> None:
        """One step's terms, of which the means are taken where they are not scalars."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term.detach().mean())
            self._steps[name] = self._steps.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """By name, over the steps since the last time."""
        means = {name: total / self._steps[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._steps.clear()
        return means
