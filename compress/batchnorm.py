"""Batch-norm statistics measured again, for a network whose weights were cut or changed without training.

The running averages of a pruned network still describe the activations before the cut. A forward pass over a
few thousand training images replaces them by the plain average over those images; no weight changes.
"""

from __future__ import annotations

import torch
from torch import nn

from .. import errors
from ..data import Dataset, Preprocess
from .objective import as_tensor, network_inputs


def reestimate_batch_norm(
    model: nn.Module,
    data: Dataset,
    preprocess: Preprocess,
    *,
    images: int = 2048,
    batch: int = 128,
    seed: int = 0,
) -> int:
    """Replace running mean and variance of every batch norm by those of `images` seeded training images.

    Works in place; dropout and the like stay off. Returns the number of layers re-estimated (0 when there are
    none).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [module for module in norms if module.track_running_stats]
    if not norms:
        return 0
    if data.train is None:
        raise errors.training.no_training_images(data.name, "re-estimate batch-norm statistics")
    pixels = as_tensor(data.train.x)
    count = min(images, len(pixels))
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[:count]
    was_training = model.training
    momenta = [module.momentum for module in norms]
    model.eval()
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # cumulative average instead of an exponential one
        module.train()
    # Batches of one size, so that the average over batches is the average over images.
    batch = min(batch, count)
    with torch.no_grad():
        for first in range(0, count - batch + 1, batch):
            model(network_inputs(pixels[chosen[first : first + batch]], preprocess))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.train(was_training)
    return len(norms)
