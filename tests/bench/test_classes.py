from __future__ import annotations

import numpy as np
from edgelathe.bench.accuracy import accuracy, paired
from edgelathe.bench.classes import class_answers
from edgelathe.bench.records import ClassAnswers
from hypothesis import given
from hypothesis import strategies as st

LABELS = np.array([0, 0, 0, 0, 2, 2])
ANSWERS = np.array([0, 2, 1, 2, 2, 0])


def test_by_hand() -> None:
    found = class_answers(ANSWERS, LABELS, ("cat", "dog", "owl"))
    assert found == (
        ClassAnswers(name="cat", total=4, correct=1, taken_for={"owl": 2, "dog": 1}),
        ClassAnswers(name="owl", total=2, correct=1, taken_for={"cat": 1}),
    )
    assert list(found[0].taken_for) == ["owl", "dog"], "most frequent first"


def test_gains_and_losses_by_hand() -> None:
    reference = np.array([1, 0, 1, 2, 2, 2])
    cat, owl = class_answers(ANSWERS, LABELS, ("cat", "dog", "owl"), reference)
    assert (cat.gained, cat.lost, owl.gained, owl.lost) == (1, 1, 0, 1)


def test_outputs_that_no_class_belongs_to_have_a_number() -> None:
    (found,) = class_answers(np.array([7, 1]), np.array([1, 1]), ("cat", "dog"))
    assert found.taken_for == {"output 7": 1}


def test_classes_of_one_name_are_told_apart() -> None:
    first, second = class_answers(np.array([1, 1]), np.array([0, 1]), ("crane", "crane"))
    assert (first.name, first.taken_for, second.name) == ("crane (0)", {"crane (1)": 1}, "crane (1)")


def test_without_names_nothing_is_counted() -> None:
    assert class_answers(ANSWERS, LABELS, ()) == ()


@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), classes=st.integers(1, 5))
def test_classes_add_up_to_the_whole(seed: int, count: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, mine, theirs = rng.integers(0, classes, (3, count))
    found = class_answers(mine, labels, [f"c{number}" for number in range(classes)], theirs)
    whole = accuracy(mine, labels)
    assert (sum(c.correct for c in found), sum(c.total for c in found)) == (whole.correct, whole.total)
    assert (sum(c.gained or 0 for c in found), sum(c.lost or 0 for c in found)) == paired(mine, theirs, labels)
