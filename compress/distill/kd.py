"""Distillation from a teacher's softened outputs (Hinton et al. 2015).

    KD_i = T^2 KL( softmax(t_i / T) || softmax(s_i / T) )
    L    = mean over images of a_i KD_i + (1 - a_i) CE(s_i, y_i)

with student logits s, teacher logits t, label y, temperature T and the share a_i given to the teacher. The divergence
is summed over classes: averaging over them as well would weaken the teacher by their number.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kd(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """KD per image, float32 [N], from logits float32 [N, classes]."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    )
    return temperature**2 * divergence.sum(dim=1)
