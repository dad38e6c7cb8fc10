from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.weighting.entropy import entropy


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [200.0, 0.0], [math.log(3), 0.0]])
    doubt = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    found = entropy(logits, torch.tensor([0, 0, 1]), 1.0)
    assert found.tolist() == pytest.approx([0.0, 1.0, 1 - doubt], abs=1e-6)


def test_labels_play_no_part_and_temperature_does() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0]])
    one, other = (entropy(logits, torch.tensor([label]), 2.0) for label in (0, 2))
    assert torch.equal(one, other)
    assert entropy(logits, torch.tensor([0]), 4.0) < one
