"""What the name of a pattern says, without PyTorch: recipes are checked before it is loaded.

"unstructured"            single weights
"2:4", "4:8", any "N:M"   N of every M along the input channels
"4x1", "1x4", any "RxC"   blocks of output x input channels
"kernel"                  whole kernels
"strided-2", "strided-S"  every S-th tap of a kernel
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ... import errors

Kind = Literal["unstructured", "N:M", "RxC", "kernel", "strided-S"]

_WRITTEN: dict[str, Kind] = {
    r"unstructured": "unstructured",
    r"([1-9]\d*):([1-9]\d*)": "N:M",
    r"([1-9]\d*)x([1-9]\d*)": "RxC",
    r"kernel": "kernel",
    r"strided-([1-9]\d*)": "strided-S",
}
DEFAULT_KEEP = 0.5


@dataclass(frozen=True)
class PatternName:
    name: str
    kind: Kind
    numbers: tuple[int, ...]

    @property
    def keep(self) -> float | None:
        """The share of weights that the name itself says stays; None where it says nothing."""
        if self.kind == "N:M":
            return self.numbers[0] / self.numbers[1]
        return 1 / self.numbers[0] if self.kind == "strided-S" else None


def read_pattern(name: str) -> PatternName:
    """Raises EdgeLatheError for a name that is none, and for patterns that would remove nothing (4:4, 1x1)."""
    for written, kind in _WRITTEN.items():
        if found := re.fullmatch(written, name):
            pattern = PatternName(name, kind, tuple(map(int, found.groups())))
            if (pattern.keep is None or pattern.keep < 1) and math.prod(pattern.numbers or (2,)) > 1:
                return pattern
    raise errors.sparsify.unknown_pattern(name)


def keep_share(pattern: PatternName, keep: float | None) -> float:
    """The share of weights that stay. Raises EdgeLatheError for one that the pattern does not allow."""
    if pattern.keep is not None:
        if keep is not None and not math.isclose(keep, pattern.keep):
            raise errors.inputs.impossible_setting("keep", keep, f"left out, as {pattern.name} says how much it keeps")
        return pattern.keep
    if keep is None:
        return DEFAULT_KEEP
    if not 0 < keep < 1:
        raise errors.inputs.impossible_setting("keep", keep, "above 0 and below 1")
    return keep


def check_gradual(pattern: PatternName) -> None:
    """Raises EdgeLatheError for a pattern without masks between none and the last one."""
    if pattern.kind == "strided-S":
        raise errors.sparsify.not_gradual(pattern.name)
