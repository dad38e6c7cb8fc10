from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.distill.dkd import dkd
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def _logits(seed: int, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, classes, generator=generator).mul(3)
    return student, teacher, torch.randint(0, classes, (6,), generator=generator)


def _kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_by_hand() -> None:
    student = torch.tensor([[0.25, 0.25, 0.5]]).log()
    teacher = torch.tensor([[0.6, 0.3, 0.1]]).log()
    target = _kl([0.6, 0.4], [0.25, 0.75])
    others = _kl([0.75, 0.25], [1 / 3, 2 / 3])
    found = dkd(student, teacher, torch.tensor([0]), temperature=1.0, target=1.5, others=8.0)
    assert found.tolist() == pytest.approx([1.5 * target + 8 * others], rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 8.0))
def test_is_hintons_divergence_where_others_weigh_what_the_teacher_leaves_them(seed: int, temperature: float) -> None:
    # KD = TCKD + (1 - p_y) NCKD, with p_y the teacher's probability of the label (equation 6 of the paper).
    student, teacher, labels = _logits(seed)
    probabilities = F.softmax(teacher / temperature, dim=1)
    left = 1 - probabilities.gather(1, labels[:, None]).squeeze(1)
    target = dkd(student, teacher, labels, temperature=temperature, target=1.0, others=0.0)
    others = dkd(student, teacher, labels, temperature=temperature, target=0.0, others=1.0)
    plain = (probabilities * (probabilities.log() - F.log_softmax(student / temperature, dim=1))).sum(dim=1)
    assert torch.allclose(target + left * others, temperature**2 * plain, rtol=1e-4, atol=1e-4)


def test_of_equal_answers_is_zero_and_otherwise_above() -> None:
    student, teacher, labels = _logits(0)
    assert dkd(teacher, teacher, labels, temperature=4.0).abs().max().item() < 1e-5
    assert dkd(student, teacher, labels, temperature=4.0).min().item() > 0


def test_two_classes_have_no_others() -> None:
    student, teacher, labels = _logits(1, classes=2)
    with_others = dkd(student, teacher, labels, temperature=2.0, others=8.0)
    without = dkd(student, teacher, labels, temperature=2.0, others=0.0)
    assert torch.equal(with_others, without)


def test_a_teacher_without_doubt_gives_finite_gradients() -> None:
    student = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    dkd(student, torch.tensor([[-900.0, 900.0, 0.0]]), torch.tensor([1]), temperature=1.0).sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad[0, 1].item() < 0
