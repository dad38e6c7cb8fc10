"""How many weights to keep so that a network with zeros is as small as one with fewer channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from . import errors
from .bench.encoded import encoded_bytes
from .bench.study.records import Matching
from .compress.sparsify.sparsify import plan_sparsity
from .errors import EdgeLatheError
from .recipe_stages import SparsityKeys

STEPS = 20
"""Halvings of the interval: the share is found to a millionth."""
DENSEST = 1 - 2**-STEPS


class Weights(NamedTuple):
    """One tensor of weights."""

    values: int
    kept: int


@dataclass(frozen=True)
class Dense:
    """The deployed network before its weights are pruned."""

    nonzero: int
    """Parameters that are not zero."""
    encoded_bytes: int
    bytes_per_weight: int
    """4 in float files, 1 in int8 files."""


def nonzero_after(dense: Dense, weights: Iterable[Weights]) -> int:
    """Parameters that are not zero once of each tensor only `kept` weights are left."""
    return dense.nonzero - sum(each.values - each.kept for each in weights)


def encoded_after(dense: Dense, weights: Iterable[Weights]) -> int:
    """Encoded bytes (bench/encoded.py) once of each tensor only `kept` weights are left.

    A prediction: codes of int8 weights that round to zero and weights that training turns into zeros come off it.
    """
    width = dense.bytes_per_weight
    return dense.encoded_bytes - sum(
        each.values * width - encoded_bytes(each.values, each.kept, width) for each in weights
    )


def matched_share(
    model: nn.Module, example: Tensor, stage: SparsityKeys, dense: Dense, target: float, matching: Matching | None
) -> float:
    """The share of weights that `stage` has to keep, so that `model` comes to `target` parameters that are not zero
    or, matching by "encoded-size", to `target` encoded bytes.

    model -- the network that `dense` describes as it was deployed. Raises EdgeLatheError where no share does.
    """
    keys = {key: getattr(stage, key) for key in ("pattern", "scope", "only", "ignore")}
    after, what = (nonzero_after, "the number of parameters that are not zero")
    if matching == "encoded-size":
        after, what = (encoded_after, "its encoded size")
    plan_sparsity(model, example, keep=DENSEST, **keys)  # refuses what is wrong with the stage, whatever the share

    def size_of(keep: float) -> float | None:
        if keep > DENSEST:
            return after(dense, ())
        try:
            plan, _ = plan_sparsity(model, example, keep=keep, **keys)
        except EdgeLatheError:  # too small a share for some layer
            return None
        return after(dense, [Weights(each.size, each.kept) for each in plan.sparse])

    return matching_keep(size_of, target, what)


def matching_keep(size_of: Callable[[float], float | None], target: float, what: str) -> float:
    """The largest share in (0, 1] whose size is at most `target`.

    size_of -- must not fall as the share grows; None for shares that are too small to be possible.
    Raises EdgeLatheError, which calls the size `what`, where even the smallest possible share is larger than `target`.
    """
    if (whole := size_of(1.0)) is None or whole <= target:
        return 1.0
    low, high, found, least = 0.0, 1.0, False, whole
    for _ in range(STEPS):
        middle = (low + high) / 2
        size = size_of(middle)
        if size is None:
            low = middle
        elif size <= target:
            low, found = middle, True
        else:
            high, least = middle, size
    if not found:
        raise errors.study.no_match(what, target, least)
    return low
