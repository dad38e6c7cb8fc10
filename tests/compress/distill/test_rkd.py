from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.rkd import rkd, rkd_angle, rkd_distance
from hypothesis import given, settings
from hypothesis import strategies as st


def test_distance_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])  # distances 5, 4, 3: mean 4
    teacher = torch.tensor([[0.0], [1.0], [11.0]])  # 1, 11, 10: mean 22 / 3
    mine, theirs = [5 / 4, 1.0, 3 / 4], [3 / 22, 33 / 22, 30 / 22]
    gaps = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
    assert gaps[0] > 1 > gaps[1]  # both arms of Huber's loss
    wanted = sum(gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps) / 3
    assert rkd_distance(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_angle_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # angles 90, 45, 45 degrees
    teacher = torch.tensor([[0.0], [1.0], [3.0]])  # on a line: 0, 180, 0 degrees
    half = math.sqrt(0.5)
    gaps = [0.0 - 1.0, half - -1.0, half - 1.0]
    # Each angle counts twice (i, k and k, i) of the 27 triples; all others are 0 or 1 in both.
    wanted = 2 * sum(gap**2 / 2 if abs(gap) < 1 else abs(gap) - 0.5 for gap in gaps) / 27
    assert rkd_angle(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_moved_turned_and_scaled_vectors_relate_as_before(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(7, 5, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    moved = scale * (vectors @ turn) + torch.randn(5, generator=generator)
    padded = torch.cat([moved, torch.zeros(7, 3)], dim=1)
    assert rkd_distance(padded, vectors).item() < 1e-6
    assert rkd_angle(padded, vectors).item() < 1e-6


def test_proportion_of_the_paper() -> None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    wanted = 25 * rkd_distance(student, teacher) + 50 * rkd_angle(student, teacher)
    assert rkd(student, teacher).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_equal_vectors_give_finite_gradients() -> None:
    teacher = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for vectors in (torch.zeros(5, 3), teacher[[0, 0, 1, 2, 3]]):
        student = vectors.clone().requires_grad_()
        rkd(student, teacher).backward()
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()
