"""Hints (Romero et al. 2015, FitNets): a layer of the student, through a regressor, learns to give what the teacher's
gives.

    L = mean over all entries of ( r(F_student) - F_teacher )^2

The paper's ½ || . ||² and its number of entries are part of the weight, `beta`: 100 in RepDistiller's one-stage form,
in which hint and labels are learned together. The regressor r learns beside the student and is dropped with the
teacher.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar loss from float32 [N,C,H,W] of the student, regressed to the teacher's shape, and the teacher's."""
    return F.mse_loss(student, teacher)
