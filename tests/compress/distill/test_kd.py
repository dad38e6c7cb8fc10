from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.distill.kd import kd
from torch import Tensor


@pytest.fixture
def logits() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator).mul(3)
    return student, teacher, torch.tensor([0, 1, 2, 3, 4, 0])


def test_equals_the_published_formula(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    soft = F.kl_div(F.log_softmax(student / 4, dim=1), F.softmax(teacher / 4, dim=1), reduction="batchmean")
    wanted = 0.1 * F.cross_entropy(student, labels) + 0.9 * 16 * soft
    found = kd(student, teacher, labels, share=torch.full((6,), 0.9), temperature=4.0)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_ends_of_the_share(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    nothing, everything = torch.zeros(6), torch.ones(6)
    plain = kd(student, teacher, labels, share=nothing, temperature=4.0)
    assert plain.item() == pytest.approx(F.cross_entropy(student, labels).item(), rel=1e-6)
    same = kd(teacher, teacher, labels, share=everything, temperature=4.0)
    assert same.item() == pytest.approx(0.0, abs=1e-6)
    smoothed = kd(student, teacher, labels, share=nothing, temperature=1.0, label_smoothing=0.2)
    wanted = F.cross_entropy(student, labels, label_smoothing=0.2)
    assert smoothed.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_high_temperature_gradient_does_not_vanish(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    # T^2 keeps the size of the soft gradient: at high T it tends to the difference of centred logits.
    student, teacher, labels = logits
    student = student.clone().requires_grad_()
    kd(student, teacher, labels, share=torch.ones(6), temperature=1000.0).backward()
    centred = (student - teacher).detach()
    wanted = (centred - centred.mean(dim=1, keepdim=True)) / 5 / 6
    assert student.grad is not None
    assert torch.allclose(student.grad, wanted, rtol=2e-2, atol=2e-3)


def test_each_image_has_its_own_share(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    share = torch.linspace(0, 1, 6)
    single = [
        kd(student[i : i + 1], teacher[i : i + 1], labels[i : i + 1], share=share[i : i + 1], temperature=2.0)
        for i in range(6)
    ]
    together = kd(student, teacher, labels, share=share, temperature=2.0)
    assert together.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-5)
