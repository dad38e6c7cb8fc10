from __future__ import annotations

import pytest
import torch
from edgelathe.compress.distill.weighting import (
    HIGHEST,
    LOWEST,
    RULES,
    WEIGHTINGS,
    agreement,
    confidence,
    entropy,
    teacher_share,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def test_rules_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0], [100.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    assert confidence(logits, labels, 1.0).tolist() == pytest.approx([0.5, 1.0, 0.0], abs=1e-6)
    assert entropy(logits, labels, 1.0).tolist() == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    assert agreement(logits, labels, 1.0).tolist() == [1.0, 1.0, 0.0]


def test_temperature_softens_confidence() -> None:
    logits, labels = torch.tensor([[4.0, 0.0]]), torch.tensor([0])
    assert confidence(logits, labels, 4.0).item() == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=1e-6)


def test_fixed_is_alpha_without_limits() -> None:
    for alpha in (0.0, 0.37, 1.0):
        share = teacher_share(
            "fixed", torch.zeros(3, 2), torch.tensor([0, 1, 0]), alpha=alpha, temperature=4.0, mean_score=1.0
        )
        assert share.tolist() == pytest.approx([alpha] * 3)


@settings(max_examples=50, deadline=None)
@given(
    weighting=st.sampled_from(sorted(RULES)),
    seed=st.integers(0, 10**6),
    size=st.floats(0, 50),
    alpha=st.floats(0, 1),
    mean=st.floats(0, 1),
)
def test_shares_lie_between_the_limits_and_carry_no_gradient(
    weighting: str, seed: int, size: float, alpha: float, mean: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(20, 4, generator=generator) * size).requires_grad_()
    labels = torch.randint(0, 4, (20,), generator=generator)
    share = teacher_share(weighting, logits, labels, alpha=alpha, temperature=2.0, mean_score=mean)
    assert not share.requires_grad
    assert share.shape == (20,)
    assert float(share.min()) >= LOWEST - 1e-6
    assert float(share.max()) <= HIGHEST + 1e-6


@pytest.mark.parametrize("weighting", ["confidence", "agreement"])
def test_a_wrong_teacher_gets_less_than_average(weighting: str) -> None:
    logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    mean = float(RULES[weighting](logits, labels, 2.0).mean())
    share = teacher_share(weighting, logits, labels, alpha=0.6, temperature=2.0, mean_score=mean)
    assert share[3] < 0.6 < share[0]
    assert share.mean().item() == pytest.approx(0.6, abs=0.05)


def test_names() -> None:
    assert WEIGHTINGS == ("fixed", "confidence", "agreement", "entropy")
