from __future__ import annotations

import pytest
import torch
from edgelathe.compress.distill.weighting.names import WEIGHTINGS
from edgelathe.compress.distill.weighting.rules import SCORES, score
from edgelathe.compress.mix import Mixing


def test_every_scored_rule_is_a_weighting() -> None:
    assert set(SCORES) == set(WEIGHTINGS) - {"fixed", "accuracy", "gap"}


def test_scores_of_mixed_labels_are_mixed_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, 1e3], [0.0, 1e3]]), torch.tensor([1, 0])
    mixing = Mixing(partners=torch.tensor([0, 1]), shares=torch.tensor([0.7, 0.7]))
    assert score("agreement", logits, labels, 1.0, mixing).tolist() == pytest.approx([0.7, 0.3])
    assert score("confidence", logits, labels, 1.0, mixing).tolist() == pytest.approx([0.7, 0.3])
    assert score("entropy", logits, labels, 1.0, mixing).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("rule", sorted(SCORES))
def test_an_image_mixed_with_its_own_class_is_scored_as_it_is(rule: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(9, 4, generator=generator), torch.randint(0, 4, (9,), generator=generator)
    mixing = Mixing(partners=labels, shares=torch.rand(9, generator=generator))
    plain = score(rule, logits, labels, 2.0)
    assert torch.allclose(score(rule, logits, labels, 2.0, mixing), plain, rtol=0, atol=1e-6)
