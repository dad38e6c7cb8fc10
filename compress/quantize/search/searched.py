"""What a precision search lends from measuring, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..audit import Audit
from ..plan import QuantPlan
from .sensitivity import Sensitivity
from .trials import Trial

NAMED = 4
"""So many operators are named in a sentence; more are counted."""


@dataclass(frozen=True)
class Probes:
    """How files are judged; measuring is lent by the caller."""

    predict: Callable[[Path], np.ndarray]
    """Class of each judging image, int64 [N], by the file."""
    measure: Callable[[Path], float]
    """Latency of the file as a share of the float file's."""
    interval: Callable[[int, int, int], tuple[float, float]]
    """95 % interval of (gained - lost) / total, as fractions."""
    node_times: Callable[[Path], Mapping[str, float]] | None = None
    """Microseconds of each operator of the file, by its name or the value it computes; without, all cost the same."""
    clock: Callable[[], float] = time.monotonic
    """Seconds."""


@dataclass(frozen=True)
class Searched:
    best: Trial
    held: bool
    """Whether the best keeps the accuracy asked for."""
    max_accuracy_drop: float
    ended: str
    """Why the search ended."""
    trials: tuple[Trial, ...]
    sensitivities: tuple[Sensitivity, ...]
    """Of the scheme that fell back to float, most noise first; empty where none did."""
    weight_bits: dict[str, int] | None
    """Bits of each layer's weights, by node; None where all have eight."""
    plan: QuantPlan = field(repr=False)
    audit: Audit
    images: int

    def summary(self) -> str:
        """What was chosen, how sure that is, and whether it is worth shipping."""
        best, kept = self.best, self.best.keep_float
        found = f"{'Held' if self.held else 'Missed'} a drop of at most {self.max_accuracy_drop:g} points"
        interval = f"{best.low:.2f} to {best.high:.2f} on {best.total} images"
        names = ", ".join(kept) if len(kept) <= NAMED else f"{len(kept)} operators"
        floats = f"{names} kept in float" if kept else "nothing kept in float on purpose"
        speed = "" if best.latency is None else f", {best.latency:.2f} x of float's latency"
        sentences = [f"{found}: {best.drop:.2f} ({interval}){speed}, {best.scheme}, {floats}; {self.ended}."]
        if best.high > self.max_accuracy_drop and self.held:
            sentences.append(
                f"{best.total} images cannot tell drops apart that differ by less than {best.resolution:.2f} points:"
                f" a drop of up to {best.high:.2f} is not excluded, give more images to be surer."
            )
        if best.latency is not None and best.latency >= 1.0:
            sentences.append("It is no faster than float on this machine: keep the float file.")
        return " ".join(sentences)

    def as_dict(self) -> dict[str, Any]:
        """The record of the search as JSON values."""
        return {
            "summary": self.summary(),
            "held": self.held,
            "max_accuracy_drop": self.max_accuracy_drop,
            "ended": self.ended,
            "best": self.best.as_dict(),
            "trials": [trial.as_dict() for trial in self.trials],
            "sensitivities": [vars(found) for found in self.sensitivities],
            "weight_bits": self.weight_bits,
            "images": self.images,
        }
