"""The multiple of channels at which a runtime's latency steps, read off times that were measured.

Runtimes compute channels in blocks, so latency over width is a staircase: every width between two steps takes as long
as the wider step, and cutting down to it buys nothing. A multiple m dominates when every width that was measured has
one as wide or wider, a multiple of m, that takes no longer. The largest such multiple is that of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

TOLERANCE = 0.03
"""Times that differ by less, as a share, count as equal."""
WIDEST = 64
"""Channels around which steps are looked for: blocks are small, and stand out more the fewer of them there are."""
NARROWEST = 4


@dataclass(frozen=True)
class Staircase:
    multiple: int
    reason: str


def widths_to_measure(channels: int) -> tuple[int, ...]:
    """The widths that tell the multiple for groups of `channels`, the widest first; none for very narrow groups."""
    if channels < NARROWEST:
        return ()
    base = 1 << (min(channels, WIDEST).bit_length() - 1)
    below = [1 << power for power in range(base.bit_length() - 1)]
    return (base, *(base - step for step in below))


def find_multiple(times: Mapping[int, Sequence[float]]) -> Staircase:
    """The multiple of the steps, given the times (in any unit, several each) of the widths of `widths_to_measure`.

    Medians are compared, so that a minority of disturbed readings does not count.
    """
    at = {width: median(read) for width, read in times.items()}
    base = max(at)
    multiple = 1
    while 2 * multiple <= base and all(_dominated(width, at, 2 * multiple) for width in at):
        multiple *= 2
    # The next step down, where one was measured, and the narrowest width on the same step as the base.
    telling = [
        max((width for width in at if width <= base - multiple), default=None),
        min((width for width in at if base - multiple < width < base), default=None),
    ]
    shares = [f"{width} channels take {at[width] / at[base]:.0%}" for width in telling if width is not None]
    return Staircase(multiple, f"{' and '.join(shares)} of the time of {base}")


def _dominated(width: int, at: Mapping[int, float], multiple: int) -> bool:
    limit = at[width] * (1 + TOLERANCE)
    return any(wider >= width and wider % multiple == 0 and at[wider] <= limit for wider in at)
