"""Batch norms of a network that was cut, measured anew."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..compress.batchnorm import likeliest_augment, reestimate_batch_norm
from ..networks import Network
from ..recipe_stages import PruneChannels, Sparsify
from .context import Context


def renew_norms(
    stage: PruneChannels | Sparsify, model: nn.Module, network: Network, context: Context
) -> dict[str, Any]:
    """Batch norms of `model`, cut from `network`, on images augmented as those were that `network` was trained on."""
    if not stage.reestimate_norms or context.data.train is None:
        return {"batch_norms_reestimated": 0}
    kind = likeliest_augment(network.model, context.data, network.preprocess, seed=context.seed)
    count = reestimate_batch_norm(model, context.data, network.preprocess, augmented=kind, seed=context.seed)
    return {"batch_norms_reestimated": count, "reestimated_on_augmented": kind}
