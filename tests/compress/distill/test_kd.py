from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.distill.kd import kd
from torch import Tensor


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator).mul(3)
    return student, teacher


def test_by_hand() -> None:
    student, teacher = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kd(student, teacher, temperature=1.0).tolist() == pytest.approx([wanted], rel=1e-5)
    assert kd(3 * student, 3 * teacher, temperature=3.0).tolist() == pytest.approx([9 * wanted], rel=1e-5)


def test_equals_the_published_formula(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    wanted = 16 * F.kl_div(F.log_softmax(student / 4, dim=1), F.softmax(teacher / 4, dim=1), reduction="batchmean")
    assert kd(student, teacher, temperature=4.0).mean().item() == pytest.approx(wanted.item(), rel=1e-5)


def test_each_image_counts_by_itself(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    single = torch.cat([kd(student[i : i + 1], teacher[i : i + 1], temperature=2.0) for i in range(6)])
    assert torch.allclose(kd(student, teacher, temperature=2.0), single, rtol=1e-5, atol=0)
    assert kd(teacher, teacher, temperature=2.0).abs().max().item() < 1e-5


def test_high_temperature_gradient_does_not_vanish(logits: tuple[Tensor, Tensor]) -> None:
    # T^2 keeps the size of the soft gradient: at high T it tends to the difference of centred logits.
    student, teacher = logits
    student = student.clone().requires_grad_()
    kd(student, teacher, temperature=1000.0).mean().backward()
    centred = (student - teacher).detach()
    wanted = (centred - centred.mean(dim=1, keepdim=True)) / 5 / 6
    assert student.grad is not None
    assert torch.allclose(student.grad, wanted, rtol=2e-2, atol=2e-3)
