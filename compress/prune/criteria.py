"""The importance criteria by name, and what each of them looks at.

A criterion scores the output channels of one layer and knows nothing of the network; the least important
channels go. Its parameter names say what it looks at, and it returns importance, float32 [out_channels]:

    filters            float32 [out_channels, fan_in]
    gradients          float32 [out_channels, fan_in]: of the mean loss over the samples
    squared_gradients  float32 [out_channels, fan_in]: diagonal of the empirical Fisher information
    norm_scale         float32 [out_channels]: |gamma| of the batch norm behind the layer
    maps               float32 [images, out_channels, h, w]: what the layer gives, behind the normalisation and the
                       activation that follow it; asked for each batch of samples, and the answers are averaged
    seed               int, another one for each layer

A function of a user's own works in the same way. Parameters with a default are left to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor

from ... import errors
from .bn_scale import bn_scale
from .fpgm import fpgm
from .fpgm_mix import fpgm_mix
from .hrank import hrank
from .l1 import l1
from .l2 import l2
from .lamp import lamp
from .obd import obd
from .random import random
from .taylor import taylor

Criterion = Callable[..., Tensor]

CRITERIA: dict[str, Criterion] = {
    "fpgm": fpgm,
    "fpgm-mix": fpgm_mix,
    "l1": l1,
    "l2": l2,
    "lamp": lamp,
    "bn-scale": bn_scale,
    "taylor": taylor,
    "obd": obd,
    "hrank": hrank,
    "random": random,
}

EVIDENCE = ("filters", "gradients", "squared_gradients", "norm_scale", "maps", "seed")
FROM_SAMPLES = frozenset({"gradients", "squared_gradients", "maps"})


def find_criterion(criterion: str | Criterion) -> tuple[str, Criterion]:
    """Name and function of a criterion; raises EdgeLatheError for an unknown name."""
    if not isinstance(criterion, str):
        return getattr(criterion, "__name__", type(criterion).__name__), criterion
    if criterion not in CRITERIA:
        raise errors.inputs.unknown_choice("criterion", criterion, CRITERIA)
    return criterion, CRITERIA[criterion]


def evidence_of(criterion: str | Criterion) -> frozenset[str]:
    """What a criterion looks at, of EVIDENCE; raises EdgeLatheError for a parameter that is none of it."""
    name, function = find_criterion(criterion)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as reason:
        raise errors.prune.unreadable_criterion(name, EVIDENCE) from reason
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for parameter in named:
        if parameter.name not in EVIDENCE and parameter.default is parameter.empty:
            raise errors.prune.unknown_evidence(name, parameter.name, EVIDENCE)
    looked_at = frozenset(parameter.name for parameter in named) & frozenset(EVIDENCE)
    if not looked_at:
        raise errors.prune.unreadable_criterion(name, EVIDENCE)
    return looked_at


def needs_samples(criterion: str | Criterion) -> bool:
    """Whether a criterion looks at more than the weights: at gradients or feature maps of training images."""
    return bool(evidence_of(criterion) & FROM_SAMPLES)
