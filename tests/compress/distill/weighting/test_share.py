from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.distill.weighting.make import make_teacher_share
from edgelathe.compress.distill.weighting.names import HIGHEST, LOWEST, WEIGHTINGS
from edgelathe.compress.distill.weighting.rules import SCORES
from edgelathe.compress.distill.weighting.share import TeacherShare
from edgelathe.compress.distill.weighting.statistics import TeacherStatistics
from edgelathe.compress.mix import Mixing
from edgelathe.compress.objective import Batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

MakeBatch = Callable[..., Batch]
KNOWN = TeacherStatistics(5000, agreement=0.75, confidence=0.5, entropy=0.4)


def share_of(weighting: str, **settings: Any) -> TeacherShare:
    return TeacherShare(weighting, **{"alpha": 0.6, "temperature": 1.0, "statistics": KNOWN, **settings})


def parts(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Hinton's divergence at T = 1 and cross entropy, per image."""
    soft = F.softmax(teacher, dim=1) * (F.log_softmax(teacher, dim=1) - F.log_softmax(student, dim=1))
    return soft.sum(dim=1), F.cross_entropy(student, labels, reduction="none")


@settings(max_examples=60, deadline=None)
@given(
    weighting=st.sampled_from([rule for rule in WEIGHTINGS if rule != "fixed"]),
    seed=st.integers(0, 10**6),
    size=st.floats(0, 50),
    alpha=st.floats(0, 1),
    mean=st.floats(0, 1),
    mixes=st.booleans(),
)
def test_shares_lie_between_the_limits_and_carry_no_gradient(
    make_batch: MakeBatch, weighting: str, seed: int, size: float, alpha: float, mean: float, mixes: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    answers = (torch.randn(20, 4, generator=generator) * size).requires_grad_()
    labels, partners = torch.randint(0, 4, (2, 20), generator=generator)
    batch = make_batch(labels, 4, Mixing(partners, torch.rand(20, generator=generator)) if mixes else None)
    soft, hard = parts(batch.logits, answers, labels)
    found = share_of(weighting, alpha=alpha, statistics=TeacherStatistics(9, mean, mean, mean))
    share = found(batch, answers, soft, hard)
    assert share.shape == (20,) and share.dtype == torch.float32
    assert not share.requires_grad
    assert float(share.min()) >= LOWEST - 1e-6 and float(share.max()) <= HIGHEST + 1e-6
    assert torch.allclose(share + (1 - share), torch.ones(20), rtol=0, atol=1e-7)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_without_limits_the_ends_are_the_labels_alone_and_the_teacher_alone(
    make_batch: MakeBatch, weighting: str, alpha: float
) -> None:
    labels = torch.tensor([0, 1, 1])
    batch, answers = make_batch(labels), torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
    soft, hard = parts(batch.logits, answers, labels)
    sure = TeacherStatistics(9, agreement=1.0, confidence=float(F.softmax(answers, 1).max()), entropy=1.0)
    if weighting == "entropy":  # one without any doubt
        answers = answers * 100
    limits = {} if weighting == "fixed" else {"alpha_min": 0.0, "alpha_max": 1.0}
    share = share_of(weighting, alpha=alpha, statistics=sure, **limits)(batch, answers, soft, hard)
    loss = share * soft + (1 - share) * hard
    assert torch.allclose(loss, soft if alpha else hard, rtol=0, atol=1e-6)
    assert share.unique().tolist() == pytest.approx([alpha], abs=1e-6)


@pytest.mark.parametrize("weighting", ["confidence", "agreement"])
def test_a_teacher_wrong_on_the_label_has_less_than_the_average(make_batch: MakeBatch, weighting: str) -> None:
    answers, labels = torch.tensor([[3.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    mean = float(SCORES[weighting](answers, labels, 1.0).mean())
    found = share_of(weighting, statistics=TeacherStatistics(4, mean, mean, mean))
    share = found(make_batch(labels), answers, torch.ones(4), torch.ones(4))
    assert share[3] < share.mean() and share[3] < 0.6 < share[0]
    assert share.mean().item() == pytest.approx(0.6, abs=0.05)


def test_shares_by_hand(make_batch: MakeBatch) -> None:
    labels = torch.tensor([0, 0])
    batch, ones = make_batch(labels), torch.ones(2)
    answers = torch.tensor([[0.0, 0.0], [0.0, torch.log(torch.tensor(3.0))]])  # softmax 1/2, 1/2 and 1/4, 3/4
    assert share_of("fixed")(batch, answers, ones, ones).tolist() == pytest.approx([0.6, 0.6])
    assert share_of("confidence")(batch, answers, ones, ones).tolist() == pytest.approx([0.6, 0.3])
    assert share_of("agreement")(batch, answers, ones, ones).tolist() == pytest.approx([0.8, 0.1])
    accuracy = share_of("accuracy", alpha=0.5)
    assert accuracy(batch, answers, ones, ones).tolist() == pytest.approx([0.75 / 1.75] * 2)
    stated = share_of("accuracy", alpha=0.5, statistics=None, teacher_accuracy=0.25)
    assert stated(batch, answers, ones, ones).tolist() == pytest.approx([0.2] * 2)
    assert share_of("gap", alpha=0.5)(batch, answers, 3 * ones, ones).tolist() == pytest.approx([0.25] * 2)


def test_mixed_labels_are_scored_by_their_shares(make_batch: MakeBatch) -> None:
    mixing = Mixing(partners=torch.tensor([1]), shares=torch.tensor([0.25]))
    batch, answers = make_batch(torch.tensor([0]), 2, mixing), torch.tensor([[100.0, 0.0]])
    found = share_of("confidence", alpha=0.5, statistics=TeacherStatistics(1, 1.0, 1.0, 1.0))
    assert found(batch, answers, torch.ones(1), torch.ones(1)).tolist() == pytest.approx([0.125])


def test_the_log_of_an_epoch_is_asked_for_once(make_batch: MakeBatch) -> None:
    found = share_of("confidence", alpha=0.5, alpha_min=0.0, alpha_max=1.0)
    answers = torch.tensor([[0.0, 0.0], [0.0, torch.log(torch.tensor(3.0))]])
    for labels in (torch.tensor([0, 0]), torch.tensor([0, 1])):
        found(make_batch(labels), answers, torch.ones(2), torch.ones(2))
    # shares 0.5, 0.25 and 0.5, 0.75
    assert found.logged() == pytest.approx(
        {
            "share_mean": 0.5, "share_min": 0.25, "share_max": 0.75, "share_q1": 0.4375, "share_q3": 0.5625,
            "mean_score": 0.5,
        }
    )  # fmt: skip
    assert found.logged() == {}


@pytest.mark.parametrize(
    ("weighting", "settings"),
    [
        ("fixed", {"alpha": 0.6}),
        ("accuracy", {"alpha": 0.6, "alpha_min": 0.1, "alpha_max": 0.9, "teacher_accuracy": 0.75}),
        (
            "confidence",
            {"alpha": 0.6, "alpha_min": 0.1, "alpha_max": 0.9, "score_temperature": 1.0, "mean_score": 0.5},
        ),
        ("gap", {"alpha": 0.6, "alpha_min": 0.1, "alpha_max": 0.9}),
    ],
)
def test_settings_name_all_that_shares_depend_on(weighting: str, settings: dict[str, float]) -> None:
    assert share_of(weighting).settings() == {"weighting": weighting, **settings}


def test_only_running_means_are_in_the_state() -> None:
    assert {rule: list(share_of(rule).state_dict()) for rule in WEIGHTINGS if share_of(rule).state_dict()} == {
        "gap": ["gap.running"]
    }
    assert [rule for rule in WEIGHTINGS if share_of(rule).needs_state] == ["gap"]


def test_made_from_settings_the_teacher_is_measured_only_where_it_is_asked_for() -> None:
    from edgelathe.data import Split

    images = Split(torch.zeros(6, 2, 2, 1, dtype=torch.uint8).numpy(), torch.tensor([0, 1] * 3).numpy())
    asked: list[int] = []

    def answers(shown: Tensor) -> Tensor:
        asked.append(len(shown))
        return torch.tensor([[1.0, 0.0]]).expand(len(shown), 2)

    for weighting in ("fixed", "gap"):
        made = make_teacher_share(weighting, answers, images, temperature=1.0)
        assert made.statistics is None
    stated = make_teacher_share("accuracy", answers, images, temperature=1.0, teacher_accuracy=0.9)
    assert stated.statistics is None and stated.teacher_accuracy == 0.9 and asked == []
    measured = make_teacher_share("accuracy", answers, images, temperature=1.0, mix="mixup")
    assert measured.teacher_accuracy == 0.5 and asked == [6]
    scored = make_teacher_share("confidence", answers, images, temperature=1.0, alpha=0.4)
    assert scored.statistics is not None and scored.statistics.images == 6 and scored.alpha == 0.4
