"""The learning rate over a training run."""

from __future__ import annotations

import math
from typing import Literal, get_args

Schedule = Literal["cosine", "constant", "step"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def learning_rate(schedule: Schedule, peak: float, epoch: float, epochs: int, warmup: float) -> float:
    """Learning rate `epoch` epochs (a fraction) into a run of `epochs`.

    Rises linearly to `peak` during the first `warmup` epochs, then follows half a cosine down to zero, stays
    constant, or falls to a tenth at one half and again at three quarters of the whole run.
    """
    if epoch < warmup:
        return peak * epoch / warmup if epoch > 0 else peak * 1e-3
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * 0.1 ** ((epoch >= epochs / 2) + (epoch >= epochs * 3 / 4))
    share = (epoch - warmup) / max(epochs - warmup, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
