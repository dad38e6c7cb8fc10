"""Decoupled distillation (Zhao B. et al. 2022, CVPR): what the teacher says about the label, and about all else, apart.

With p_y the softened probability of the label y, b = (p_y, 1 - p_y), and q the softened probabilities of the other
classes among themselves,

    TCKD_i = T^2 KL( b_teacher || b_student )        NCKD_i = T^2 KL( q_teacher || q_student )
    L_i    = target * TCKD_i + others * NCKD_i

Hinton's loss is TCKD + (1 - p_y of the teacher) NCKD: where the teacher is sure, it hardly teaches how the other
classes resemble each other. Here that part has a weight of its own: 8 in the paper, 2 from ResNet-56 to ResNet-20.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, target: float = 1.0, others: float = 8.0
) -> Tensor:
    """Loss per image, float32 [N], from logits float32 [N, classes] and labels int64 [N]."""
    about_label = _divergence(
        _label_or_not(student / temperature, labels), _label_or_not(teacher / temperature, labels)
    )
    about_others = _divergence(*(F.log_softmax(_others(x / temperature, labels), dim=1) for x in (student, teacher)))
    return temperature**2 * (target * about_label + others * about_others)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over dim 1 of logarithms."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def _label_or_not(logits: Tensor, labels: Tensor) -> Tensor:
    """Logarithms of the probability of the label and of that of any other class, [N, 2]."""
    both = torch.stack([logits.gather(1, labels[:, None]).squeeze(1), _others(logits, labels).logsumexp(dim=1)], dim=1)
    return F.log_softmax(both, dim=1)


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits of all classes but the label, [N, classes - 1]."""
    apart = F.one_hot(labels, logits.shape[1]).bool()
    return logits[~apart].view(len(logits), -1)
