from __future__ import annotations

import pytest
from edgelathe.compress.checkpoint import Epoch
from edgelathe.compress.progress import TrainingProgress


def test_a_log_gets_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress("distill", epochs=3, steps=10, done=1, shown=True) as view:
        view.step(2, 0.5, 0.8, 640.0)
        view.epoch(Epoch(2, 0.5, 0.8, None, 640.4))
        view.epoch(Epoch(3, 0.25, 0.9, 0.875, 640.4))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "distill epoch 2/3  loss 0.500  accuracy 80.0%  640 images/s",
        "distill epoch 3/3  loss 0.250  accuracy 90.0%  640 images/s  test 87.50%",
    ]


def test_nothing_when_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress("train", epochs=1, steps=1, done=0, shown=False) as view:
        view.step(1, 0.5, 0.8, 640.0)
        view.epoch(Epoch(1, 0.5, 0.8, None, 640.4))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with TrainingProgress("train", epochs=2, steps=1, done=0, shown=True) as view:
        view.step(1, 0.5, 0.8, 640.0)
        view.step(2, 0.25, 0.9, 650.0)
    text = capsys.readouterr().err
    assert "train epoch 2/2" in text
    assert "loss 0.250  accuracy 90.0%  650 images/s" in text
