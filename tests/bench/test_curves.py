from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from edgelathe.bench.curves import curves, shares
from edgelathe.bench.records import EpochPoint, Report, StageRecord
from edgelathe.bench.svg import Plot, drawing

CYAN = "var(--c1)"


def texts(plot: Plot) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(plot.svg).iter("text")]


def label(plot: Plot) -> str:
    return ElementTree.fromstring(plot.svg).attrib["aria-label"]


def trained(report: Report, points: list[EpochPoint], **settings: object) -> Report:
    stage = StageRecord(
        do="distill", folder="1-distill", key="k", settings=settings, summary="Done.", epochs=tuple(points)
    )
    return report.model_copy(update={"stages": (stage,)})


def point(epoch: int, lr: float | None = None, **logged: float) -> EpochPoint:
    return EpochPoint(
        epoch=epoch, loss=1 / epoch, train_accuracy=0.5, test_accuracy=0.6, images_per_second=9.0, lr=lr, logged=logged
    )


@pytest.fixture(autouse=True)
def _drawing():
    with drawing():
        yield


def test_every_training_stage_has_its_curve(report: Report) -> None:
    first, second = curves(report)
    assert (first.title, second.title) == ("1. train", "3. distill")
    assert first.note == "12 epochs, 5200 images/s."
    assert {"test 98.3", "train 97.4", "accuracy, %", "loss", "lr", "epoch", "0.1"} <= set(texts(first))
    assert label(first) == (
        "Learning curves of stage 1. train: after epoch 12 loss 0.160, 97.4 % of training images right, 98.3 % of test "
        "images right"
    )


def test_without_learning_rates_there_is_no_panel_for_them(report: Report) -> None:
    (drawn,) = curves(trained(report, [point(1), point(2)]))
    assert "lr" not in texts(drawn) and {"loss", "test 60.0"} <= set(texts(drawn))


def test_steps_of_the_learning_rate_can_be_told_apart(report: Report) -> None:
    rates = [0.1, 0.1, 0.01, 0.001]
    (drawn,) = curves(trained(report, [point(epoch, rate) for epoch, rate in enumerate(rates, start=1)]))
    assert {"0.1", "0.01", "0.001"} <= set(texts(drawn))


def test_one_epoch_can_be_drawn(report: Report) -> None:
    lone = trained(report, [point(1, 0.05, share_mean=0.5, share_min=0.1, share_max=0.9, share_q1=0.4, share_q3=0.6)])
    (curve,), (share,) = curves(lone), shares(lone)
    assert curve.note == "1 epoch, 9 images/s."
    assert {"train 50.0", "test 60.0"} <= set(texts(curve))
    assert "mean 0.50" in texts(share)


def test_shares_of_the_teacher_are_drawn_with_their_spread(report: Report) -> None:
    (drawn,) = shares(report)
    assert drawn.title == "3. distill"
    assert drawn.note == "weighting = confidence. Line: mean over images; dark: the middle half of them; pale: all."
    assert label(drawn) == (
        "Teacher's share in the loss of stage 3. distill: mean 0.48 in the first epoch and 0.60 in the last"
    )
    assert "mean 0.60" in texts(drawn)
    assert drawn.svg.count(CYAN) >= 4, "two areas, a line and its label"


def test_a_share_that_never_moves_is_not_drawn(report: Report) -> None:
    same = dict.fromkeys(("share_mean", "share_min", "share_max", "share_q1", "share_q3"), 0.9)
    assert shares(trained(report, [point(1, **same), point(2, **same)])) == []
    moved = {**same, "share_mean": 0.8}
    assert len(shares(trained(report, [point(1, **same), point(2, **moved)]))) == 1


def test_other_logged_figures_are_no_shares(report: Report, bare_report: Report) -> None:
    assert shares(trained(report, [point(1, teacher=0.3), point(2, teacher=0.2)])) == []
    assert shares(bare_report) == curves(bare_report) == []


def test_same_report_same_plots(report: Report) -> None:
    assert (curves(report), shares(report)) == (curves(report), shares(report))
