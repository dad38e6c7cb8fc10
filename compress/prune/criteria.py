"""The importance criteria by name, and how a criterion scores layers whose channels live and die together.

A criterion maps filters, float32 [out_channels, fan_in], to importance [out_channels]; the least important
channels go. It looks at one layer and knows nothing of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ... import errors
from .fpgm import fpgm
from .l1 import l1
from .l2 import l2
from .random import random

Criterion = Callable[[Tensor], Tensor]

CRITERIA: dict[str, Criterion] = {"fpgm": fpgm, "l1": l1, "l2": l2}
SEEDED: dict[str, Callable[[int], Criterion]] = {"random": random}


def find_criterion(criterion: str | Criterion, seed: int) -> tuple[str, Criterion]:
    """Name and function of a criterion; raises EdgeLatheError for an unknown name."""
    if not isinstance(criterion, str):
        return getattr(criterion, "__name__", type(criterion).__name__), criterion
    if criterion in SEEDED:
        return criterion, SEEDED[criterion](seed)
    if criterion not in CRITERIA:
        raise errors.inputs.unknown_choice("criterion", criterion, [*CRITERIA, *SEEDED])
    return criterion, CRITERIA[criterion]


def group_importance(criterion: Criterion, layers: Sequence[Tensor]) -> Tensor:
    """Importance [channels] of channels that several layers make; each gives filters [channels, fan_in].

    Each layer's scores are divided by their mean, so that a layer of large weights does not outvote the
    others, and then averaged.
    """
    if len(layers) == 1:
        return criterion(layers[0])
    scores = [criterion(filters) for filters in layers]
    return torch.stack([score / score.mean().clamp_min(1e-12) for score in scores]).mean(dim=0)
