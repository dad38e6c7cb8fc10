from __future__ import annotations

import torch
from edgelathe.compress.distill.weighting.agreement import agreement


def test_by_hand() -> None:
    logits = torch.tensor([[0.1, 0.0, 0.0], [5.0, 6.0, 1.0], [5.0, 6.0, 1.0]])
    assert agreement(logits, torch.tensor([0, 1, 0]), 4.0).tolist() == [1.0, 1.0, 0.0]
