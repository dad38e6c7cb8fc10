from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.attention_transfer import attention_map, attention_transfer
from hypothesis import given, settings
from hypothesis import strategies as st


def test_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).view(1, 2, 1, 2)  # mean squares 5 and 2
    teacher = torch.tensor([[3.0, 2.0]]).view(1, 1, 1, 2)  # 9 and 4
    mine = [5 / math.sqrt(29), 2 / math.sqrt(29)]
    theirs = [9 / math.sqrt(97), 4 / math.sqrt(97)]
    wanted = sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True)) / 2
    assert attention_transfer(student, teacher).item() == pytest.approx(wanted, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), mine=st.floats(0.01, 100), theirs=st.floats(0.01, 100), copies=st.integers(1, 3))
def test_scale_order_and_number_of_channels_do_not_matter(seed: int, mine: float, theirs: float, copies: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(3, 4, 5, 5, generator=generator), torch.randn(3, 6, 5, 5, generator=generator)
    wanted = attention_transfer(student, teacher).item()
    changed = student[:, torch.randperm(4, generator=generator)].repeat(1, copies, 1, 1)
    assert attention_transfer(-mine * changed, theirs * teacher).item() == pytest.approx(wanted, rel=1e-3, abs=1e-7)


def test_maps_are_unit_vectors_even_of_a_dead_layer() -> None:
    lengths = attention_map(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).norm(dim=1)
    assert lengths.tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    attention_transfer(dead, torch.ones(2, 3, 4, 4)).backward()
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()
