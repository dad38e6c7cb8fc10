from __future__ import annotations

import pytest
import torch
from edgelathe.compress.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "at", "wanted"),
    [
        ("constant", 7.3, 0.1),
        ("cosine", 0.0, 0.1),
        ("cosine", 5.0, 0.05),
        ("cosine", 10.0, 0.0),
        ("step", 4.99, 0.1),
        ("step", 5.0, 0.01),
        ("step", 7.5, 0.001),
    ],
)
def test_without_warmup(schedule: str, at: float, wanted: float) -> None:
    assert learning_rate(schedule, 0.1, at, 10, 0.0) == pytest.approx(wanted, abs=1e-12)  # type: ignore[arg-type]


def test_warmup_rises_linearly_and_cosine_takes_over_at_the_peak() -> None:
    assert learning_rate("cosine", 0.1, 0.0, 10, 2.0) == pytest.approx(1e-4)
    assert learning_rate("cosine", 0.1, 1.0, 10, 2.0) == pytest.approx(0.05)
    assert learning_rate("cosine", 0.1, 2.0, 10, 2.0) == pytest.approx(0.1)
    assert learning_rate("cosine", 0.1, 6.0, 10, 2.0) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("at", "warmup", "wanted"),
    [
        (0.0, 0.0, 0.004),  # a 25th of the peak
        (1.5, 0.0, 0.052),  # half of the rise of 3 epochs: in the middle between 0.004 and 0.1
        (3.0, 0.0, 0.1),
        (6.5, 0.0, 0.0500002),  # half of the fall to 4e-7
        (10.0, 0.0, 4e-7),
        (2.0, 4.0, 0.052),
        (4.0, 4.0, 0.1),
    ],
)
def test_one_cycle_rises_and_falls(at: float, warmup: float, wanted: float) -> None:
    assert learning_rate("one-cycle", 0.1, at, 10, warmup) == pytest.approx(wanted, rel=1e-9)


def test_one_cycle_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    # Its first step is at the beginning of a run and its last one at the end; the fourth has the peak.
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=11, pct_start=4 / 11)
    for step in range(11):
        assert learning_rate("one-cycle", 0.2, step, 10, 3.0) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if step < 10:
            theirs.step()
