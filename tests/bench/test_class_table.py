from __future__ import annotations

from collections.abc import Callable

import pytest
from edgelathe.bench.class_table import class_rows, confusions
from edgelathe.bench.paired import paired_interval
from edgelathe.bench.records import ClassAnswers, Report
from edgelathe.bench.stats import wilson

from .conftest import make_accuracy, make_candidate, make_classes, make_environment

Edit = Callable[..., Report]


def test_worst_classes_first_with_intervals(report: Report) -> None:
    rows = class_rows(report)
    assert [row.name for row in rows] == list("8913024567")
    worst = rows[0]
    assert (worst.recall.correct, worst.recall.total, worst.recall.share) == (32, 36, 32 / 36)
    assert (worst.recall.low, worst.recall.high) == wilson(32, 36)
    assert worst.reference is not None and worst.reference.correct == 33
    assert worst.points == pytest.approx(-100 / 36)
    low, high = paired_interval(2, 3, 36)
    assert (worst.low, worst.high) == pytest.approx((100 * low, 100 * high))
    assert (worst.recall.taken_for, worst.recall.taken, worst.reference_taken) == ("1", 3, 2)
    assert not worst.stands_out
    assert (rows[-1].recall.taken_for, rows[-1].recall.taken, rows[-1].reference_taken) == ("", 0, None)


def test_a_change_beyond_chance_stands_out() -> None:
    def lost(count: int) -> bool:
        entry = ClassAnswers(name="a", total=100, correct=90 - count, taken_for={"b": 10 + count}, gained=0, lost=count)
        before = ClassAnswers(name="a", total=100, correct=90, taken_for={"b": 10})
        pair = [
            make_candidate("x", accuracy=make_accuracy(90, 100), classes=(before,)),
            make_candidate(
                "y", accuracy=make_accuracy(90 - count, 100), classes=(entry,),
                disagreement_gained=0, disagreement_lost=count,
            ),
        ]  # fmt: skip
        made = Report(
            name="r", created="", tool_version="", data={}, environment=make_environment(), recipe={},
            stages=(), candidates=tuple(pair), reference="x",
        )  # fmt: skip
        return class_rows(made)[0].stands_out

    assert not lost(1)
    assert lost(12)


def test_a_report_about_its_reference_compares_nothing(report: Report) -> None:
    lone = report.model_copy(update={"candidates": report.candidates[:1]})
    rows = class_rows(lone)
    assert rows[0].name == "8" and rows[0].reference is None and rows[0].points is None
    assert confusions(lone) == ["float-dense most often takes 8 for 1: 2 of 36 images."]


def test_a_subject_without_classes_has_no_table(edited: Edit, bare_report: Report) -> None:
    assert class_rows(edited("int8-pruned", classes=())) == []
    assert class_rows(bare_report) == [] and confusions(bare_report) == []


def test_a_reference_without_classes_is_not_compared(edited: Edit) -> None:
    rows = class_rows(edited("float-dense", classes=()))
    assert rows[0].reference is None and rows[0].points is None and rows[0].reference_taken is None


def test_the_confusion_that_matters_and_the_one_that_grew(report: Report, edited: Edit) -> None:
    assert confusions(report) == ["int8-pruned most often takes 8 for 1: 3 of 36 images, float-dense 2."]
    classes = list(report.candidates[0].classes)
    classes[8] = classes[8].model_copy(update={"taken_for": {"1": 3}})
    pruned = edited("float-dense", classes=tuple(classes))
    assert confusions(pruned) == [
        "int8-pruned most often takes 8 for 1: 3 of 36 images, float-dense 3.",
        "The confusion that grew most against float-dense: 8 taken for 3, 1 of 36 images instead of 0.",
    ]


def test_nothing_confused_nothing_said(report: Report) -> None:
    perfect = make_candidate("float-dense", accuracy=make_accuracy(360), classes=make_classes({}))
    assert confusions(report.model_copy(update={"candidates": (perfect,)})) == []
