"""How far calibration carries: what was seen of every tensor, what its codes cut off, what they leave unused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..value_codes import Codes
from .affine import LEVELS
from .histogram import Histogram

FEW_IMAGES = 32
"""Ranges of fewer images than this are a matter of luck."""


@dataclass(frozen=True)
class Coverage:
    tensor: str
    images: int
    samples: int
    """Values counted."""
    low: float
    high: float
    """The smallest and the largest value seen."""
    range_low: float
    range_high: float
    """What the lowest and the highest code stand for."""
    clipped_below: float
    clipped_above: float
    """Shares of the counted values that lie more than half a step outside."""
    codes_used: float
    """Share of the 256 codes that counted values are written with."""
    channels: int
    dead_channels: int
    """Channels that held one and the same value in all images and places."""
    note: str
    """What is wrong with the tensor as a whole; mostly empty."""


def coverage(
    statistics: Mapping[str, Histogram], codes: Mapping[str, Codes], *, lowest_code: int = 0
) -> tuple[Coverage, ...]:
    """One entry for every tensor that has codes, in their order; bins count as their middles.

    `lowest_code` is 0 for uint8 codes and -128 for int8 codes. A tensor without statistics, such as one that a
    rewrite added after calibration, is said to be reached by no sample.
    """
    return tuple(_coverage(name, statistics.get(name), one, lowest_code) for name, one in codes.items())


def _coverage(name: str, seen: Histogram | None, codes: Codes, lowest_code: int) -> Coverage:
    range_low = codes.scale * (lowest_code - codes.zero_point)
    range_high = codes.scale * (lowest_code + LEVELS - 1 - codes.zero_point)
    if seen is None or seen.samples == 0:
        return Coverage(name, 0, 0, 0.0, 0.0, range_low, range_high, 0.0, 0.0, 0.0, 0, 0, "no sample reached it")
    filled = seen.counts > 0
    values, counts = seen.centers[filled], seen.counts[filled]
    steps = np.rint(values / codes.scale) + codes.zero_point - lowest_code
    used = len(np.unique(np.clip(steps, 0, LEVELS - 1)))
    constant = seen.low == seen.high
    return Coverage(
        tensor=name,
        images=seen.images,
        samples=seen.samples,
        low=seen.low,
        high=seen.high,
        range_low=range_low,
        range_high=range_high,
        clipped_below=float(counts[steps < 0].sum() / seen.samples),
        clipped_above=float(counts[steps > LEVELS - 1].sum() / seen.samples),
        codes_used=used / LEVELS,
        channels=len(seen.channel_lows),
        dead_channels=seen.dead_channels,
        note=f"every value of it is {seen.low:.4g}" if constant else "",
    )


def coverage_summary(found: Sequence[Coverage]) -> str:
    """One sentence; it ends in a warning where images are few."""
    reached = [one for one in found if one.samples]
    if not reached:
        return "No calibration image reached any quantized tensor."
    images, worst = max(one.images for one in reached), max(reached, key=_clipped)
    parts = [f"calibrated on {images} image{'s' if images > 1 else ''}"]
    if _clipped(worst) > 0:
        parts.append(f"at most {_percent(_clipped(worst))} of a tensor's values clipped ({worst.tensor})")
    else:
        parts.append("nothing clipped")
    if dead := sum(one.dead_channels for one in reached):
        parts.append(f"{dead} of {sum(one.channels for one in reached)} channels never change")
    constant = [one.tensor for one in reached if one.note]
    unreached = [one.tensor for one in found if not one.samples]
    for names, what in ((constant, "constant"), (unreached, "never reached")):
        if names:
            parts.append(f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} {what}")
    sentence = "; ".join(parts)
    if images < FEW_IMAGES:
        sentence += f"; warning: fewer than {FEW_IMAGES} images, whose ranges may not hold for others"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _clipped(one: Coverage) -> float:
    return one.clipped_below + one.clipped_above


def _percent(share: float) -> str:
    return "less than 0.001 %" if share < 1e-5 else f"{100 * share:.2g} %"
