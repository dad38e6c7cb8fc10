"""Top-1 accuracy of a PyTorch network (deployed files are judged by bench/accuracy.py)."""

from __future__ import annotations

import torch
from torch import nn

from ..data import Preprocess, Split
from .objective import as_tensor, network_inputs


def evaluate(model: nn.Module, split: Split, preprocess: Preprocess, *, batch: int = 250) -> int:
    """Number of images of `split` that `model`, in eval mode and float32, classifies as labelled."""
    was_training = model.training
    model.eval()
    images, labels = as_tensor(split.x), as_tensor(split.y)
    correct = 0
    with torch.inference_mode():
        for first in range(0, len(labels), batch):
            logits = model(network_inputs(images[first : first + batch], preprocess))
            correct += int((logits.argmax(dim=1) == labels[first : first + batch]).sum())
    model.train(was_training)
    return correct
