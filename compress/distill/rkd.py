"""Relational distillation (Park et al. 2019, CVPR): how images lie to each other, not where each of them lies.

With x_i the vector that a layer gives image i of a batch,

    distance   psi(i, j)    = || x_i - x_j || / mean over pairs of || x - x' ||
    angle      psi(i, j, k) = cos( x_i - x_j, x_k - x_j )
    L          = mean over pairs or triples of huber( psi_student - psi_teacher )

with huber(d) = ½ d² up to |d| = 1 and |d| - ½ after, weighted by 25 and 50. Student and teacher may have vectors of
different lengths. Angles take N² vectors and N³ numbers for a batch of N.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DISTANCE_WEIGHT, ANGLE_WEIGHT = 25.0, 50.0

_SMALLEST = 1e-12


def rkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Both, in the paper's proportion: scalar loss from float32 [N,C] and [N,K]."""
    return DISTANCE_WEIGHT * rkd_distance(student, teacher) + ANGLE_WEIGHT * rkd_angle(student, teacher)


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar loss from float32 [N,C] and [N,K], N at least 2."""
    return F.smooth_l1_loss(_distances(student), _distances(teacher))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar loss from float32 [N,C] and [N,K]: over all triples, degenerate ones (cosine 0) included, as the authors'
    code does."""
    return F.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _distances(vectors: Tensor) -> Tensor:
    """Of all pairs, [N (N - 1) / 2], in units of their mean."""
    distances = F.pdist(vectors)
    return distances / distances.mean().clamp_min(_SMALLEST)


def _cosines(vectors: Tensor) -> Tensor:
    """[j, i, k]: cosine of the angle at j between i and k."""
    directions = F.normalize(vectors[None] - vectors[:, None], dim=2)
    return torch.bmm(directions, directions.transpose(1, 2))
