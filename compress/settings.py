"""The settings of a training run, refused where no run could use them."""

from __future__ import annotations

import math

from .. import errors
from .augment import AUGMENTS
from .mix import MIXES
from .penalty import SPARSITIES
from .precision import PRECISIONS
from .schedule import SCHEDULES


def check_settings(
    *, epochs: int, batch: int, lr: float, momentum: float, weight_decay: float, warmup: float,
    label_smoothing: float, threads: int | None, schedule: str, augment: str, views: int, mix: str,
    mix_strength: float, ema: float, precision: str, compiled: bool | str, evaluate: str, sparsity: str,
    sparsity_strength: float,
) -> None:  # fmt: skip
    """Raises EdgeLatheError for the first value that is out of its range, or not among its words."""
    ranges = (
        ("epochs", epochs, epochs >= 1, "1 or more"),
        ("batch", batch, batch >= 1, "1 or more"),
        ("lr", lr, 0 < lr < math.inf, "a number above 0"),
        ("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1"),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "0 or more"),
        ("warmup", warmup, 0 <= warmup <= epochs, f"between 0 and the {epochs} epochs"),
        ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "at least 0 and below 1"),
        ("threads", threads, threads is None or threads >= 1, "1 or more"),
        ("views", views, views >= 0, "0 or more"),
        ("mix_strength", mix_strength, 0 < mix_strength < math.inf, "a number above 0"),
        ("ema", ema, 0 <= ema < 1, "at least 0 and below 1"),
        ("sparsity_strength", sparsity_strength, 0 <= sparsity_strength < math.inf, "0 or more"),
        ("compiled", compiled, compiled in (True, False, "auto"), 'true, false or "auto"'),
    )
    for name, value, sound, valid in ranges:
        if not sound:
            raise errors.inputs.impossible_setting(name, value, valid)
    choices = (
        ("schedule", schedule, SCHEDULES),
        ("augment", augment, AUGMENTS),
        ("mix", mix, MIXES),
        ("precision", precision, PRECISIONS),
        ("evaluate", evaluate, ("last", "every")),
        ("sparsity", sparsity, SPARSITIES),
    )
    for name, value, valid_words in choices:
        if value not in valid_words:
            raise errors.inputs.unknown_choice(name, value, valid_words)
