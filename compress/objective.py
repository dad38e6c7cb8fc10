"""What a training step minimises: a callable that gets one batch and returns a scalar loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Preprocess
from .mix import Mixing


def as_tensor(array: np.ndarray) -> Tensor:
    """View a numpy array as a tensor without copying it; nothing here writes to it."""
    with warnings.catch_warnings():
        # torch warns about arrays that must not be written to (memory maps, cached arrays).
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)


def network_inputs(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Normalise uint8 [N,H,W,C] into channels-last float32 [N,C,H,W]: (x / 255 - mean) / std."""
    mean = torch.tensor(preprocess.mean, dtype=torch.float32)
    std = torch.tensor(preprocess.std, dtype=torch.float32)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Batch:
    """One training step as the objective sees it."""

    logits: Tensor
    """float32 [N, classes] of the network in training, with its graph."""
    labels: Tensor
    """int64 [N]."""
    images: Tensor
    """uint8 [N,H,W,C], augmented: exactly the pixels that the network in training saw."""
    inputs: Tensor
    """float32 [N,C,H,W]: those pixels normalised by `preprocess`."""
    preprocess: Preprocess
    autocast: Callable[[], AbstractContextManager[object]]
    """Context of the number format that the training runs in."""
    numbers: Tensor
    """int64 [N], positions of the images in `data.train`."""
    view: int = 0
    """Which set of augmentations this is, from 0: images of the same number and view are the same pixels."""
    done: float = 0.0
    """Epochs behind this step, fractional: for terms of a loss that come in slowly."""
    mixing: Mixing | None = None
    """What mixup or cutmix did to the images; None: nothing."""

    def label_loss(self, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross entropy with the labels, smoothed (Szegedy et al. 2016) and mixed as the pixels were: float32 [N]."""
        own = F.cross_entropy(logits, self.labels, reduction="none", label_smoothing=label_smoothing)
        if self.mixing is None:
            return own
        mixed_in = F.cross_entropy(logits, self.mixing.partners, reduction="none", label_smoothing=label_smoothing)
        return self.mixing.shares * own + (1 - self.mixing.shares) * mixed_in

    def inputs_for(self, preprocess: Preprocess) -> Tensor:
        """The same pixels as another network wants them (teacher and student may normalise differently)."""
        same = (tuple(preprocess.mean), tuple(preprocess.std)) == (
            tuple(self.preprocess.mean),
            tuple(self.preprocess.std),
        )
        return self.inputs if same else network_inputs(self.images, preprocess)

    def run(self, network: nn.Module, preprocess: Preprocess) -> Tensor:
        """Logits, float32 [N, classes], of a frozen network on the same pixels."""
        with torch.no_grad(), self.autocast():
            logits = network(self.inputs_for(preprocess))
        return logits.float()


class Objective(Protocol):
    """Inherit from it for the methods that have a default."""

    def settings(self) -> Mapping[str, object]:
        """All that the loss depends on, as JSON values: a checkpoint of other settings is refused."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Scalar loss, averaged over the batch."""
        ...

    def trained(self) -> nn.Module | None:
        """What is learned beside the network, always the same module: it is in the optimizer, the checkpoint and train
        mode with the network, and not part of it."""
        return None

    def listening(self, _model: nn.Module, /) -> AbstractContextManager[object]:
        """Entered around all epochs: where hooks are put on the network in training, and taken off again."""
        return nullcontext()

    def logged(self) -> Mapping[str, float]:
        """Means over the epoch just finished, by name; asked once at its end."""
        return {}


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross entropy with the labels, smoothed by `label_smoothing` (Szegedy et al. 2016)."""

    label_smoothing: float = 0.0

    def settings(self) -> Mapping[str, object]:
        return {"loss": "cross-entropy", "label_smoothing": self.label_smoothing}

    def __call__(self, batch: Batch) -> Tensor:
        if batch.mixing is None:
            return F.cross_entropy(batch.logits, batch.labels, label_smoothing=self.label_smoothing)
        return batch.label_loss(batch.logits, self.label_smoothing).mean()
