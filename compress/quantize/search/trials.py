"""What a precision search tried: each trial with its accuracy and latency, kept in a file from which it continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....files import write_atomic
from ..builder import Scheme
from .sensitivity import Sensitivity

LATENCY_TIE = 0.02
"""Latencies that differ by less are taken as equal, and accuracy decides."""


@dataclass(frozen=True)
class Trial:
    """One int8 file, judged against the float file on the same images."""

    scheme: Scheme
    keep_float: tuple[str, ...]
    """Operators kept in float, in graph order."""
    gained: int
    """Images that only this file has right; 0 without labels."""
    lost: int
    """Images that only the float file has right; without labels those that are classified otherwise."""
    disagreed: int
    """Images that are classified otherwise."""
    total: int
    low: float
    high: float
    """95 % interval of the drop, in points."""
    file_bytes: int
    seconds: float
    """What the trial took."""
    latency: float | None = None
    """As a share of the float file's; None where it was not measured, because the accuracy did not hold."""

    @property
    def drop(self) -> float:
        """Accuracy lost against float, in points."""
        return 100.0 * (self.lost - self.gained) / self.total

    @property
    def resolution(self) -> float:
        """Half the interval of the drop: what this many images cannot tell apart, in points."""
        return (self.high - self.low) / 2

    def holds(self, max_accuracy_drop: float) -> bool:
        return self.drop <= max_accuracy_drop + 1e-9

    def runs_like(self, other: Trial) -> bool:
        """Whether both files hold the same operators, so that only stored numbers differ."""
        own, others = self.scheme, other.scheme
        same = (own.per_channel, own.equalize) == (others.per_channel, others.equalize)
        return same and set(self.keep_float) == set(other.keep_float)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"drop": self.drop, "resolution": self.resolution}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Trial:
        known = {key: value for key, value in values.items() if key not in ("drop", "resolution")}
        return Trial(**known | {"scheme": Scheme(**known["scheme"]), "keep_float": tuple(known["keep_float"])})


def best_of(trials: Sequence[Trial], max_accuracy_drop: float) -> Trial | None:
    """The fastest that holds the drop, the more accurate of two equally fast; where none holds, the most accurate."""
    holding = [trial for trial in trials if trial.holds(max_accuracy_drop)]
    measured = [trial for trial in holding if trial.latency is not None]
    if measured:
        least = min(trial.latency for trial in measured if trial.latency is not None)
        near = [trial for trial in measured if trial.latency is not None and trial.latency <= least * (1 + LATENCY_TIE)]
        return min(near, key=lambda trial: (trial.drop, trial.disagreed, trial.latency))
    return min(holding or trials, key=lambda trial: (trial.drop, trial.disagreed), default=None)


class Journal:
    """The state of a search in one JSON file, written whole after every step.

    What was measured under another `key` (another model, other images, another machine), or cannot be read, is not
    used.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.spent = 0.0
        """Seconds that the search has taken so far, over all processes."""
        self.trials: list[Trial] = []
        self.rankings: dict[str, list[Sensitivity]] = {}
        """By scheme, in the order measured."""
        self.weight_bits: dict[str, int] | None = None
        """What the search for bits chose."""
        self.kept: str | None = None
        """SHA-256 of the file that was written as the best so far."""
        self._read()

    def find(self, scheme: Scheme, keep_float: Sequence[str]) -> Trial | None:
        names = set(keep_float)
        return next((t for t in self.trials if t.scheme == scheme and set(t.keep_float) == names), None)

    def record(self, trial: Trial) -> None:
        """Add the trial, in place of one with the same settings."""
        self.trials = [
            t for t in self.trials if t.scheme != trial.scheme or set(t.keep_float) != set(trial.keep_float)
        ] + [trial]

    def write(self) -> None:
        state = {
            "key": self.key,
            "spent": self.spent,
            "kept": self.kept,
            "weight_bits": self.weight_bits,
            "trials": [trial.as_dict() for trial in self.trials],
            "rankings": {name: [asdict(found) for found in ranking] for name, ranking in self.rankings.items()},
        }
        write_atomic(self.path, json.dumps(state, indent=1) + "\n", "the journal of the search")

    def _read(self) -> None:
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
            if state["key"] != self.key:
                return
            trials = [Trial.from_dict(values) for values in state["trials"]]
            rankings = {
                name: [Sensitivity(**found) for found in ranking] for name, ranking in state["rankings"].items()
            }
            spent, kept, weight_bits = float(state["spent"]), state["kept"], state["weight_bits"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        self.trials, self.rankings, self.weight_bits = trials, rankings, weight_bits
        self.spent, self.kept = spent, kept
