"""Trust in the teacher where its answer is the label: the hard version of `confidence`.

score_i = 1 where argmax t_i = y_i, else 0
"""

from __future__ import annotations

from torch import Tensor


def agreement(teacher: Tensor, labels: Tensor, _temperature: float) -> Tensor:
    """float32 [N], 0 or 1, from the teacher's logits [N, classes] and labels int64 [N]."""
    return (teacher.argmax(dim=1) == labels).to(teacher.dtype)
