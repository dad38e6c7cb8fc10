"""The learning rate over a training run."""

from __future__ import annotations

import math
from typing import Literal, get_args

Schedule = Literal["cosine", "one-cycle", "constant", "step"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)

RISE = 0.3
"""Share of a one-cycle run over which the rate rises, where `warmup` does not say."""
FIRST, LAST = 1 / 25, 1 / 250_000
"""Shares of the peak at which a one-cycle run begins and ends."""


def learning_rate(schedule: Schedule, peak: float, epoch: float, epochs: int, warmup: float) -> float:
    """Learning rate `epoch` epochs (a fraction) into a run of `epochs`.

    Rises linearly to `peak` during the first `warmup` epochs, then follows half a cosine down to zero, stays
    constant, or falls to a tenth at one half and again at three quarters of the whole run.

    "one-cycle" (Smith 2018, with the constants of torch.optim.lr_scheduler.OneCycleLR): half a cosine up from a 25th
    of the peak, over `warmup` epochs or, where that is 0, 30 % of the run, and half a cosine down to nothing. Momentum
    stays as it is.
    """
    if schedule == "one-cycle":
        top = warmup or RISE * epochs
        if epoch < top:
            return _half_cosine(peak * FIRST, peak, epoch / top)
        return _half_cosine(peak, peak * LAST, (epoch - top) / max(epochs - top, 1e-9))
    if epoch < warmup:
        return peak * epoch / warmup if epoch > 0 else peak * 1e-3
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * 0.1 ** ((epoch >= epochs / 2) + (epoch >= epochs * 3 / 4))
    share = (epoch - warmup) / max(epochs - warmup, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
