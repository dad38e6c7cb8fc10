from __future__ import annotations

import pytest
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
