from __future__ import annotations

import pytest
import torch
from edgelathe.compress.distill.hint import hint


def test_by_hand() -> None:
    student = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 1, 2)
    teacher = torch.tensor([1.0, 0.0, 3.0, 1.0]).view(1, 2, 1, 2)
    assert hint(student, teacher).item() == pytest.approx((0 + 4 + 0 + 9) / 4)
    assert hint(teacher, teacher).item() == 0
