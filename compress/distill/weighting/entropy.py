"""Trust in the teacher where it has no doubt, whatever the label says.

score_i = 1 - H( softmax(t_i / T) ) / log C,  for C classes
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def entropy(teacher: Tensor, _labels: Tensor, temperature: float) -> Tensor:
    """float32 [N]: 1 for a teacher without doubt, 0 for one that finds all classes alike; logits [N, classes]."""
    logarithms = F.log_softmax(teacher / temperature, dim=1)
    doubt = -(logarithms.exp() * logarithms).sum(dim=1)
    return (1 - doubt / math.log(teacher.shape[1])).clamp(0, 1)
