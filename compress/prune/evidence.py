"""What criteria look at besides weights: gradients over training images, in one pass for all layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import errors
from .surgery import filters, making_weight

GRADIENT_BATCH = 16


@dataclass(frozen=True)
class Samples:
    """Training images as the network wants them."""

    inputs: Tensor
    """float32 [N,C,H,W], preprocessed."""
    labels: Tensor
    """int64 [N]."""

    def __post_init__(self) -> None:
        sound = self.inputs.ndim == 4 and self.inputs.is_floating_point() and len(self.inputs) > 0
        if not sound or self.labels.shape != self.inputs.shape[:1] or self.labels.dtype != torch.int64:
            raise errors.prune.bad_samples(self.inputs.shape, self.labels.shape)

    def batches(self, size: int) -> Iterator[Samples]:
        for first in range(0, len(self.labels), size):
            yield Samples(self.inputs[first : first + size], self.labels[first : first + size])


@dataclass(frozen=True)
class Gradients:
    """Of the loss, cross entropy, by the weights of one layer; float32 [out_channels, fan_in] each."""

    mean: Tensor
    squared: Tensor


def gather_gradients(
    model: nn.Module, layers: Sequence[str], samples: Samples, *, batch: int = GRADIENT_BATCH
) -> dict[str, Gradients]:
    """Gradients of the mean loss by the weights of `layers`, and the diagonal of the empirical Fisher information.

    One pass over the samples in eval mode, on a copy of `model`. With g_B the gradient of the mean loss over a
    batch of n_B samples, N in all:

        mean = sum_B n_B g_B / N        squared = sum_B n_B (n_B g_B^2) / N

    For batches of one sample, `squared` is the Fisher diagonal E[g^2]; for larger ones it has the same expectation
    where the gradients of samples are independent with mean zero, as they are near a minimum.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    owners = [network.get_submodule(name) for name in layers]
    weights = [making_weight(owner).requires_grad_(True) for owner in owners]
    mean = [torch.zeros_like(weight) for weight in weights]
    squared = [torch.zeros_like(weight) for weight in weights]
    for part in samples.batches(batch):
        share = len(part.labels) / len(samples.labels)
        with torch.enable_grad():
            found = torch.autograd.grad(_loss(network, part), weights, allow_unused=True, materialize_grads=True)
        for place, gradient in enumerate(found):
            mean[place].add_(gradient, alpha=share)
            squared[place].addcmul_(gradient, gradient, value=share * len(part.labels))
    return {
        name: Gradients(filters(owner, mean[place]), filters(owner, squared[place]))
        for place, (name, owner) in enumerate(zip(layers, owners, strict=True))
    }


def _loss(network: nn.Module, samples: Samples) -> Tensor:
    logits = answer(network, samples)
    if logits.ndim != 2 or int(samples.labels.max()) >= logits.shape[1] or int(samples.labels.min()) < 0:
        raise errors.prune.labels_without_logits(int(samples.labels.max()), list(logits.shape))
    return F.cross_entropy(logits.float(), samples.labels)


def answer(network: nn.Module, samples: Samples) -> Tensor:
    """What `network` gives for the samples; raises EdgeLatheError when it cannot take them."""
    try:
        output = network(samples.inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        why = str(reason).splitlines()[0]
        raise errors.training.network_rejects_images(samples.inputs.shape[1:], why) from reason
    if not isinstance(output, Tensor):
        raise errors.prune.cannot_trace(f"it returns a {type(output).__name__} instead of logits")
    return output
