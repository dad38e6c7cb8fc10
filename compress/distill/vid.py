"""Variational information distillation (Ahn et al. 2019): how much the student's layer tells of the teacher's.

    -log q(t | s) = ½ [ (t - mu(s))^2 / v_c + log v_c ],   averaged over all entries;   v_c = softplus(rho_c) + 1e-5

mu is three 1 x 1 convolutions with ReLUs between them, and the variance v_c of each channel c of the teacher is learned
as well: channels that the student cannot tell get a large one and cease to matter. Variances begin at 5.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_VARIANCE = 5.0
LEAST_VARIANCE = 1e-5


def vid(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Scalar loss from float32 [N,C,H,W], predicted and found, and float32 [C]."""
    variance = variance[:, None, None]
    return torch.mean(0.5 * ((teacher - mean).square() / variance + variance.log()))


class Variational(nn.Module):
    """mu and v of one pair of layers: the scalar loss of maps float32 [N,inputs,H,W] of the student and [N,outputs,H,W]
    of the teacher."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
        )  # fmt: skip
        self.rho = nn.Parameter(torch.full((outputs,), math.log(math.expm1(FIRST_VARIANCE - LEAST_VARIANCE))))

    def variance(self) -> Tensor:
        return F.softplus(self.rho) + LEAST_VARIANCE

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return vid(self.mean(student), teacher, self.variance())
