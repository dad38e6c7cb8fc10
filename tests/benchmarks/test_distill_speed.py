from __future__ import annotations

import pytest

from .distill_contenders import ANSWERS, CONTENDERS, FULL
from .distill_speed import as_markdown, ratio, whole_run


def test_a_whole_run_by_hand() -> None:
    speeds = {FULL.name: [1000.0, 500.0], ANSWERS.name: [500.0, 500.0]}
    # An image takes 1 ms in a step, 2 ms of the teacher in a tenth of the epochs, and 50 s / 500,000 of compiling.
    found = whole_run(speeds, 50.0, epochs=10, views=1)
    assert found == pytest.approx([1 / 0.0013, 1 / 0.0023])


def test_ratios_are_of_the_same_round() -> None:
    middle, low, high = ratio([4.0, 10.0, 6.0], [1.0, 2.0, 2.0], seed=0)
    assert middle == 4.0
    assert (low, high) == (3.0, 5.0)


def test_the_table_has_every_contender_and_whole_runs() -> None:
    speeds = {contender.name: [100.0, 100.0] for contender in CONTENDERS} | {FULL.name: [400.0, 440.0]}
    text = as_markdown(
        {
            "images_per_second": speeds,
            "settings": {"seed": 0, "threads": 2, "batch": 128, "rounds": 2, "steps": 4, "workers": 1},
            "epochs": 100, "views": [5, 10], "compiling_seconds": 0.0, "environment": {"cpu": "a processor"},
            "plain_images_per_second_by_workers": {0: 90.0, 1: 100.0}, "load_before": 0.1, "command": "python",
        }
    )  # fmt: skip
    for contender in CONTENDERS:
        assert f"| {contender.name} |" in text
    assert "| EdgeLathe | 420 | 4.20 (4.00 to 4.40) | 1 |" in text
    assert "| EdgeLathe, all of 100 epochs over 5 views |" in text
