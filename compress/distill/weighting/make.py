"""A training's share of the teacher made from its settings, the teacher measured where the rule asks for it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ....data import Split
from ...augment import Augment
from ...mix import Mix
from .names import HIGHEST, LOWEST, check_weighting, stated_alpha
from .rules import SCORES
from .share import TeacherShare
from .statistics import measure_teacher


def make_teacher_share(
    weighting: str,
    answers: Callable[[Tensor], Tensor],
    images: Split,
    *,
    alpha: float | None = None,
    alpha_min: float = LOWEST,
    alpha_max: float = HIGHEST,
    teacher_accuracy: float | None = None,
    temperature: float,
    augmented: Augment = "none",
    mix: Mix = "none",
    mix_strength: float = 1.0,
    seed: int = 0,
) -> TeacherShare:
    """The share of a teacher in the loss of each image.

    answers          -- its logits float32 [N, classes] of uint8 images [N,H,W,C].
    images           -- training images; see statistics.py for what is measured over them.
    alpha            -- None: 0.9, and 0.5 for the rules "accuracy" and "gap".
    teacher_accuracy -- for "accuracy": share of new images that the teacher classifies right, where that is known.
    augmented, mix   -- what the training does to its images.

    Raises EdgeLatheError for an unknown rule, shares outside of 0 to 1, and settings that the rule does not read.
    """
    check_weighting(weighting, alpha, alpha_min, alpha_max, teacher_accuracy)
    statistics = None
    if weighting in SCORES:
        statistics = measure_teacher(
            answers, images, temperature=temperature, augmented=augmented, mix=mix, mix_strength=mix_strength, seed=seed
        )
    elif weighting == "accuracy" and teacher_accuracy is None:
        statistics = measure_teacher(answers, images, temperature=temperature, augmented=augmented, seed=seed)
    return TeacherShare(
        weighting,
        alpha=stated_alpha(weighting, alpha),
        temperature=temperature,
        alpha_min=alpha_min,
        alpha_max=alpha_max,
        statistics=statistics,
        teacher_accuracy=teacher_accuracy,
    )
