"""The masks of all layers that a pattern, scores and a keep share lead to.

A mask is True where a weight stays. Scores are float32 of the weight's shape [out, in, ...]: magnitudes, or what
`movement.py` gathers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ... import errors
from . import blocks, kernels, n_of_m, strided, unstructured
from .names import PatternName
from .ranking import keep_largest

Shape = tuple[int, ...]
Scope = Literal["global", "layer"]
SCOPES: tuple[Scope, ...] = ("global", "layer")


@dataclass(frozen=True)
class Ranked:
    """Units of weights compete for a budget, within a layer or across all of them."""

    pool: Callable[[Tensor], Tensor]
    """Scores of weights -> one mean score per unit."""
    spread: Callable[[Tensor, Shape], Tensor]
    """Which units stay -> which weights of that shape stay."""
    refusal: Callable[[Shape], str]
    """Why a weight cannot have the pattern; empty when it can."""


@dataclass(frozen=True)
class Fixed:
    """The same share of weights stays everywhere, by construction."""

    mask: Callable[[Tensor, float], Tensor]
    """Scores and a share on the way to that of the pattern -> mask."""
    refusal: Callable[[Shape], str]


Pattern = Ranked | Fixed


def find_pattern(name: PatternName) -> Pattern:
    """What the pattern of that name does."""
    if name.kind == "unstructured":
        return Ranked(unstructured.pool, unstructured.spread, unstructured.refusal)
    if name.kind == "kernel":
        return Ranked(kernels.pool, kernels.spread, kernels.refusal)
    if name.kind == "RxC":
        rows, columns = name.numbers
        return Ranked(
            lambda scores: blocks.pool(scores, rows, columns),
            lambda kept, _: blocks.spread(kept, rows, columns),
            lambda shape: blocks.refusal(shape, rows, columns),
        )
    if name.kind == "N:M":
        # Rounded first: 0.75 * 4 may come out a hair above 3.
        _, m = name.numbers
        return Fixed(
            lambda scores, keep: n_of_m.n_of_m(scores, math.ceil(round(keep * m, 6)), m),
            lambda shape: n_of_m.refusal(shape, m),
        )
    (stride,) = name.numbers
    return Fixed(lambda scores, _: strided.strided(scores, stride), lambda shape: strided.refusal(shape, stride))


def masks_from(pattern: Pattern, scores: Mapping[str, Tensor], keep: float, scope: Scope) -> dict[str, Tensor]:
    """The mask of every weight in `scores`, at a share of `keep` of their weights.

    Raises EdgeLatheError where nothing of a layer would stay.
    """
    if isinstance(pattern, Fixed):
        return {name: pattern.mask(score, keep) for name, score in scores.items()}
    units = {name: pattern.pool(score) for name, score in scores.items()}
    sizes = {name: scores[name].numel() // unit.numel() for name, unit in units.items()}
    if scope == "global":
        chosen = keep_largest(list(units.values()), list(sizes.values()), keep)
    else:
        chosen = [keep_largest([unit], [sizes[name]], keep)[0] for name, unit in units.items()]
    for name, kept in zip(units, chosen, strict=True):
        if not bool(kept.any()):
            raise errors.sparsify.empties_layer(name, keep, scope)
    return {name: pattern.spread(kept, scores[name].shape) for name, kept in zip(units, chosen, strict=True)}
