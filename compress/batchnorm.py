"""Batch-norm statistics measured again, for a network whose weights were cut or changed without training.

The running averages of a pruned network still describe the activations before the cut. A forward pass over a
few thousand training images replaces them by the plain average over those images; no weight changes. The images must
be augmented as they were in training: crops of padded images have black borders, and statistics without them cost the
published CIFAR-10 ResNet-20 three points of accuracy, unpruned (docs/pruning.md).
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import errors
from ..data import Dataset, Preprocess
from .augment import AUGMENTS, Augment, augment, draw
from .objective import as_tensor, network_inputs

LIKELY_IMAGES = 512


def reestimate_batch_norm(
    model: nn.Module,
    data: Dataset,
    preprocess: Preprocess,
    *,
    images: int = 2048,
    batch: int = 128,
    augmented: Augment = "none",
    seed: int = 0,
) -> int:
    """Replace running mean and variance of every batch norm by those of `images` seeded training images.

    `augmented` is what the images went through in training; `likeliest_augment` finds out. Works in place; dropout and
    the like stay off. Returns the number of layers re-estimated (0 when there are none).
    """
    norms = _norms(model)
    if not norms:
        return 0
    if data.train is None:
        raise errors.training.no_training_images(data.name, "re-estimate batch-norm statistics")
    order = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.train), generator=order)[:images]
    pixels = as_tensor(data.train.x)[chosen]
    pixels = augment(pixels, draw(augmented, len(pixels), pixels.shape[1], pixels.shape[2], order))
    was_training = model.training
    momenta = [module.momentum for module in norms]
    model.eval()
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # cumulative average instead of an exponential one
        module.train()
    # Batches of one size, so that the average over batches is the average over images.
    batch = min(batch, len(pixels))
    with torch.no_grad():
        for first in range(0, len(pixels) - batch + 1, batch):
            model(network_inputs(pixels[first : first + batch], preprocess))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.train(was_training)
    return len(norms)


def likeliest_augment(model: nn.Module, data: Dataset, preprocess: Preprocess, *, seed: int = 0) -> Augment:
    """The augmentation under which a trained network's own statistics come back best; "none" without batch norms.

    Nobody says how published weights were trained, and the statistics remember it. `model` is not touched.
    """
    if not _norms(model):
        return "none"

    def distance(kind: Augment) -> float:
        again = copy.deepcopy(model)
        reestimate_batch_norm(again, data, preprocess, images=LIKELY_IMAGES, augmented=kind, seed=seed)
        return sum(_distance(norm, other) for norm, other in zip(_norms(model), _norms(again), strict=True))

    return min(AUGMENTS, key=distance)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _distance(norm: _BatchNorm, other: _BatchNorm) -> float:
    """Of two batch norms' statistics: means in standard deviations, variances by their logarithms."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert other.running_mean is not None and other.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double() + norm.eps
    means = (other.running_mean.double() - mean).square() / variance
    variances = ((other.running_var.double() + norm.eps) / variance).log().square()
    return float(means.mean() + variances.mean())
