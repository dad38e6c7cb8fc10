"""The stages that change a PyTorch network, one function each; `STAGES` is the literal list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..networks import Network
from ..recipe_stages import (
    Distill,
    DistillSeveral,
    DropSqueezeExcite,
    OpenShortcuts,
    PruneChannels,
    PruneStep,
    ReplaceActivations,
    Section,
    SelfDistill,
    Sparsify,
    SparsifyGradually,
    Train,
)
from .context import Context, Outcome
from .pruning import run_prune_channels
from .sparsity import run_sparsify, run_sparsify_gradually
from .surgery import run_drop_squeeze_excite, run_open_shortcuts, run_replace_activations
from .training import run_distill, run_distill_several, run_self_distill, run_train

STAGES: dict[type[Section], Callable[[Any, Network, Context], Outcome]] = {
    Train: run_train,
    PruneChannels: run_prune_channels,
    PruneStep: run_prune_channels,
    Sparsify: run_sparsify,
    SparsifyGradually: run_sparsify_gradually,
    ReplaceActivations: run_replace_activations,
    DropSqueezeExcite: run_drop_squeeze_excite,
    OpenShortcuts: run_open_shortcuts,
    Distill: run_distill,
    DistillSeveral: run_distill_several,
    SelfDistill: run_self_distill,
}
