"""How much of each image's loss comes from the teacher.

"fixed" is Hinton's constant. The others are reconstructions: AKGP (IJCESEN 944) and Zhao et al. 2022 describe weights
that follow the data, and publish no formula for them. Here a rule scores the teacher's answer to each image between
0 and 1, and

    a_i = clip( alpha * score_i / mean score over training images, 0.1, 0.9 )

so that alpha stays the usual share of the teacher. Without the mean, a teacher that is almost always right on its own
training images would leave nothing to the labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST, HIGHEST = 0.1, 0.9

Rule = Callable[[Tensor, Tensor, float], Tensor]


def confidence(teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The probability that the softened teacher gives to the label."""
    return F.softmax(teacher / temperature, dim=1).gather(1, labels[:, None]).squeeze(1)


def agreement(teacher: Tensor, labels: Tensor, _temperature: float) -> Tensor:
    """1 where the teacher's answer is the label, else 0."""
    return (teacher.argmax(dim=1) == labels).to(teacher.dtype)


def entropy(teacher: Tensor, _labels: Tensor, temperature: float) -> Tensor:
    """1 for a teacher without doubt, 0 for one that finds all classes alike; the label plays no part."""
    logarithms = F.log_softmax(teacher / temperature, dim=1)
    doubt = -(logarithms.exp() * logarithms).sum(dim=1)
    return (1 - doubt / math.log(teacher.shape[1])).clamp(0, 1)


RULES: dict[str, Rule] = {"confidence": confidence, "agreement": agreement, "entropy": entropy}
WEIGHTINGS: tuple[str, ...] = ("fixed", *RULES)


def teacher_share(
    weighting: str, teacher: Tensor, labels: Tensor, *, alpha: float, temperature: float, mean_score: float
) -> Tensor:
    """Share of the teacher, float32 [N] without gradient, from its logits [N, classes] and the labels [N]."""
    if weighting == "fixed":
        return torch.full((len(labels),), alpha)
    score = RULES[weighting](teacher, labels, temperature)
    return (alpha * score / max(mean_score, 1e-3)).clamp(LOWEST, HIGHEST).detach()
