"""Trust in the teacher where it is confident of the label.

    score_i = p_T(y_i | x_i),  the probability that the teacher, softened by T, gives to the label

A reconstruction of AKGP (IJCESEN 944), whose weights are "dynamic, data-driven" and "based on dataset characteristics"
and whose formula is not published.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def confidence(teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """float32 [N] in 0..1, from the teacher's logits [N, classes] and labels int64 [N]."""
    return F.softmax(teacher / temperature, dim=1).gather(1, labels[:, None]).squeeze(1)
