"""What a teacher is worth on a data set: how often it is right, how sure of the label, how free of doubt.

Measured over a slice of the training images, 5,000 of them at most, each class in its share, augmented and mixed as the
training does it. "Held out" would be images that the teacher was not trained on. Of a teacher that comes as weights
nobody can say which those are, and one that was trained on all images leaves none; keeping some from the student
would not change that, and cost it images. So the slice is held out from nothing. For the rules that score each image
this is what they need: their mean over the very images that the student will be taught on. The accuracy found is a
flattering one, near 1 for a teacher trained to the end; where it is known on other images, it can be stated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....data import Split
from ...augment import Augment, augment, draw
from ...mix import Mix, mixed
from ...objective import as_tensor
from .rules import SCORES, score

SLICE = 5000
"""Images, at most."""
_BATCH = 250
_DIGITS = 4
"""Decimals kept, so that another number of threads (other last bits) does not make it another training."""


@dataclass(frozen=True)
class TeacherStatistics:
    images: int
    agreement: float
    """Share of the images on which the teacher's answer is the label: its accuracy where they are not mixed."""
    confidence: float
    """Mean probability of the label, softened."""
    entropy: float
    """Mean of 1 - entropy / log classes, softened."""

    def mean_score(self, rule: str) -> float:
        """What the scores of a rule are divided by; not zero."""
        return max(getattr(self, rule), 1e-3)


def measure_teacher(
    answers: Callable[[Tensor], Tensor],
    images: Split,
    *,
    temperature: float,
    augmented: Augment = "none",
    mix: Mix = "none",
    mix_strength: float = 1.0,
    seed: int = 0,
) -> TeacherStatistics:
    """Statistics over `images`, training images of which a stratified slice is taken by `seed`.

    answers -- logits float32 [N, classes] of uint8 images [N,H,W,C].
    """
    part = images.take(SLICE, seed)
    pixels, labels = as_tensor(part.x), as_tensor(part.y)
    generator = torch.Generator().manual_seed(seed)
    draws = draw(augmented, len(labels), pixels.shape[1], pixels.shape[2], generator)
    sums = dict.fromkeys(SCORES, 0.0)
    with torch.inference_mode():
        for first in range(0, len(labels), _BATCH):
            last = min(first + _BATCH, len(labels))
            shown = augment(pixels[first:last], draws.part(first, last) if draws else None)
            shown, mixing = mixed(mix, shown, labels[first:last], mix_strength, generator)
            logits = answers(shown).float()
            for rule in SCORES:
                sums[rule] += float(score(rule, logits, labels[first:last], temperature, mixing).double().sum())
    return TeacherStatistics(
        images=len(labels), **{rule: round(total / len(labels), _DIGITS) for rule, total in sums.items()}
    )
