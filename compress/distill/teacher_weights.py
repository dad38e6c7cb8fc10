"""How much each of several teachers counts for an image (AMTML-KD: Liu et al. 2020, "Adaptive multi-teacher
multi-level knowledge distillation").

With f the student's features of an image, K teachers, and theta_k and v learned beside the student,

    w_k(x)      = softmax over k of ( (f * theta_k) . v )
    target(x)   = sum over k of w_k(x) softmax( t_k / T )

v begins at zero, so that all teachers count alike until training finds that they should not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TeacherWeights(nn.Module):
    """theta and v for `teachers` teachers and features of `width` numbers per image."""

    def __init__(self, teachers: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.theta = nn.Parameter(torch.randn((teachers, width), generator=generator) / math.sqrt(width))
        self.v = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """Logarithms of the weights, float32 [N, teachers], from features float32 [N, width], to which no gradient
        goes: a student must not learn to choose the teacher that suits it."""
        return F.log_softmax(F.linear(features.detach(), self.theta * self.v), dim=1)

    def penalty(self) -> Tensor:
        """Sum of squares of all that is learned."""
        return self.theta.square().sum() + self.v.square().sum()


def equal_weights(images: int, teachers: int) -> Tensor:
    """Logarithms of the weights that make the mean of all teachers: float32 [images, teachers]."""
    return torch.full((images, teachers), -math.log(teachers))


def soft_target(answers: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Logarithms of the teachers' weighted mean, float32 [N, classes].

    answers -- logits float32 [teachers, N, classes].
    weights -- logarithms float32 [N, teachers].
    """
    softened = F.log_softmax(answers / temperature, dim=2)
    return torch.logsumexp(softened + weights.T[:, :, None], dim=0)


def pooled(features: Tensor) -> Tensor:
    """[N, C] of a layer: the largest value of each channel of maps [N, C, H, W]; a vector as it is."""
    return features.amax(dim=(2, 3)) if features.ndim == 4 else features
