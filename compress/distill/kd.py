"""Distillation from a teacher's softened outputs (Hinton et al. 2015).

    L_i = a_i T^2 KL( softmax(t_i / T) || softmax(s_i / T) ) + (1 - a_i) CE(s_i, y_i),   averaged over the batch

with student logits s, teacher logits t, label y, temperature T and the share a_i given to the teacher. The
divergence is summed over classes: averaging over them as well would weaken the teacher by their number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    share: Tensor,
    temperature: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Scalar loss from logits float32 [N, classes], labels int64 [N] and the teacher's share float32 [N]."""
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    hard = F.cross_entropy(student, labels, reduction="none", label_smoothing=label_smoothing)
    return torch.mean(share * temperature**2 * soft + (1 - share) * hard)
