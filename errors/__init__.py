"""Every message a user can see, in one catalogue.

A message is one sentence that says what was asked, on what, why it cannot be done, and what to do about it.
The functions of these modules return the exception instead of raising it, so that a call site reads
``raise errors.inputs.missing_file("the recipe", path)`` and type checkers see that the flow ends there.
"""

from __future__ import annotations

from . import (
    answers,
    bench,
    data,
    exits,
    export,
    features,
    inputs,
    networks,
    pack,
    prune,
    quantize,
    reports,
    runs,
    sparsify,
    study,
    surgery,
    teachers,
    training,
    weighting,
    widths,
)
from .base import EdgeLatheError

__all__ = [
    "EdgeLatheError",
    "answers",
    "bench",
    "data",
    "exits",
    "export",
    "features",
    "inputs",
    "networks",
    "pack",
    "prune",
    "quantize",
    "reports",
    "runs",
    "sparsify",
    "study",
    "surgery",
    "teachers",
    "training",
    "weighting",
    "widths",
]
