from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.weighting.confidence import confidence


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0], [100.0, 0.0], [math.log(3), 0.0]])
    found = confidence(logits, torch.tensor([0, 0, 1, 1]), 1.0)
    assert found.tolist() == pytest.approx([0.5, 1.0, 0.0, 0.25], abs=1e-6)


def test_temperature_softens() -> None:
    found = confidence(torch.tensor([[4 * math.log(3), 0.0]]), torch.tensor([0]), 4.0)
    assert found.item() == pytest.approx(0.75, abs=1e-6)
