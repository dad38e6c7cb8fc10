"""Whether a network and a data set go together, found out before an epoch is spent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import errors
from ..data import Dataset, Preprocess
from .objective import as_tensor, network_inputs


def check_fit(model: nn.Module, data: Dataset, preprocess: Preprocess) -> int:
    """Run two images through `model` and return how many logits it gives.

    Raises EdgeLatheError when there are no training images, when the network cannot take them or does not return
    float [N, logits], and when it has fewer logits than there are classes.
    """
    if data.train is None or not len(data.train):
        raise errors.training.no_training_images(data.name, "train")
    shape = data.shape
    if len(preprocess.mean) != shape[0]:
        raise errors.training.network_rejects_images(shape, f"they are normalised for {len(preprocess.mean)} channels")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(network_inputs(as_tensor(data.train.x[:2]), preprocess))
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(shape, str(reason).splitlines()[0]) from reason
    finally:
        model.train(was_training)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise errors.training.network_rejects_images(shape, f"it returned {found} instead of logits [N, classes]")
    if logits.shape[1] < len(data.classes):
        raise errors.training.too_few_logits(logits.shape[1], len(data.classes))
    return logits.shape[1]
