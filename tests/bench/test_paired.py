from __future__ import annotations

import math

import pytest
from edgelathe.bench import paired
from edgelathe.bench.records import Accuracy, Candidate, Report
from hypothesis import given
from hypothesis import strategies as st

Z2 = paired.Z95**2


def test_agrees_with_the_published_example() -> None:
    # Newcombe 1998 (Statistics in Medicine 17, 2635), cells 36, 12, 2, 0: Tango's interval is 0.0611 to 0.3447.
    low, high = paired.paired_interval(12, 2, 50)
    assert low == pytest.approx(0.0611, abs=5e-5)
    assert high == pytest.approx(0.3447, abs=5e-5)


def test_without_disagreement_it_is_as_wide_as_the_images_allow() -> None:
    low, high = paired.paired_interval(0, 0, 100)
    assert high == pytest.approx(Z2 / (100 + Z2), abs=1e-9)
    assert low == pytest.approx(-high, abs=1e-9)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_contains_the_estimate_and_mirrors(gained: int, lost: int, agreed: int) -> None:
    total = max(1, gained + lost + agreed)
    low, high = paired.paired_interval(gained, lost, total)
    assert -1 <= low <= (gained - lost) / total <= high <= 1
    mirrored = paired.paired_interval(lost, gained, total)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


def test_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit 10 images"):
        paired.paired_interval(6, 5, 10)


def test_change_of_a_candidate_uses_the_pairing(report: Report) -> None:
    change = paired.accuracy_change(report.candidates[2], report.candidates[0])
    assert change is not None and change.paired
    assert change.points == pytest.approx(-2 / 360 * 100, abs=1e-12)
    unpaired = paired.accuracy_change(report.candidates[2], report.candidates[0], same_run=False)
    assert unpaired is not None and not unpaired.paired
    assert unpaired.points == change.points
    assert unpaired.low < change.low < change.high < unpaired.high


def test_equal_predictions_need_no_pairing(report: Report) -> None:
    # float-pruned and int8-pruned carry the same hash of predictions in the made-up report.
    change = paired.accuracy_change(report.candidates[2], report.candidates[1], same_run=False)
    assert change is not None and change.paired and change.points == 0


def test_no_accuracy_no_change(bare_report: Report) -> None:
    only = bare_report.candidates[0]
    assert paired.accuracy_change(only, only) is None


def test_newcombe_for_independent_proportions() -> None:
    # Newcombe 1998 (Statistics in Medicine 17, 873), 56/70 against 48/80: 0.0524 to 0.3339.
    def wilson(correct: int, total: int) -> Accuracy:
        share, scale = correct / total, 1 + Z2 / total
        centre = (share + Z2 / (2 * total)) / scale
        half = paired.Z95 / scale * math.sqrt(share * (1 - share) / total + Z2 / (4 * total**2))
        return Accuracy(correct=correct, total=total, top1=share, low=centre - half, high=centre + half)

    found = paired.independent_interval(wilson(56, 70), wilson(48, 80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_change_needs_candidates_only(report: Report) -> None:
    dense = report.candidates[0]
    same = Candidate.model_validate(dense.model_dump() | {"disagreement_gained": 0, "disagreement_lost": 0})
    change = paired.accuracy_change(same, dense)
    assert change is not None and change.points == 0 and change.high == pytest.approx(Z2 / (360 + Z2) * 100)
