"""What the outputs of a network with early exits are called in its file."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAIN = "logits"
PREFIX = "exit_"


def exit_names(places: Sequence[str]) -> tuple[str, ...]:
    """One name per exit, in order: "exit_" and the layer that it reads, in letters that are safe in every runtime."""
    names: list[str] = []
    for place in places:
        name = free = PREFIX + re.sub(r"\W", "_", place)
        count = 1
        while free in names:
            count += 1
            free = f"{name}_{count}"
        names.append(free)
    return tuple(names)
