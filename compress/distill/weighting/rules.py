"""The rules that score the teacher's answer to each image, the others being numbers or running means."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...mix import Mixing
from .agreement import agreement
from .confidence import confidence
from .entropy import entropy

Score = Callable[[Tensor, Tensor, float], Tensor]

SCORES: dict[str, Score] = {"confidence": confidence, "agreement": agreement, "entropy": entropy}


def score(rule: str, teacher: Tensor, labels: Tensor, temperature: float, mixing: Mixing | None = None) -> Tensor:
    """float32 [N] in 0..1; where labels are mixed, the mixture of the scores by either label."""
    own = SCORES[rule](teacher, labels, temperature)
    if mixing is None:
        return own
    mixed_in = SCORES[rule](teacher, mixing.partners, temperature)
    return mixing.shares * own + (1 - mixing.shares) * mixed_in
