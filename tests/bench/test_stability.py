from __future__ import annotations

import pytest
from edgelathe.bench.stability import reasons_for_doubt

CALM = [[1.0, 1.01, 0.99, 1.0]] * 5


def judge(bursts: list[list[float]] = CALM, **changes: object) -> tuple[str, ...]:
    settings: dict[str, object] = {
        "quartiles_ms": (0.99, 1.0, 1.01),
        "busy": [0.99] * 20,
        "relative_width": 0.02,
        "one_core": True,
    }
    return reasons_for_doubt(bursts, **{**settings, **changes})  # type: ignore[arg-type]


def test_a_calm_measurement_is_not_doubted() -> None:
    assert judge() == ()


CASES: list[tuple[dict[str, object], str]] = [
    ({"bursts": [[1.0, 1.0]] * 4}, "only 8 rounds were measured, fewer than 10: give more seconds"),
    (
        {"bursts": [[1.0] * 10] * 2},
        "only 2 generation(s) of processes were measured, so that what differs from process to process is "
        "unknown: give more seconds",
    ),
    (
        {"relative_width": 0.123},
        "the interval of the ratio is 12 % wide: give more seconds or a quieter machine",
    ),
    (
        {"quartiles_ms": (0.9, 1.0, 1.15)},
        "half of the runs spread over 25 % of the median (more than 20 %): use a quieter machine",
    ),
    (
        {"bursts": [[1.0] * 4, [1.1] * 4, [1.25] * 4]},
        "the last third of the rounds was 25 % slower than the first: the machine heats up or is shared, "
        "so the milliseconds hold for this moment only",
    ),
    (
        {"bursts": [[1.33] * 4, [1.1] * 4, [1.0] * 4]},
        "the last third of the rounds was 25 % faster than the first: the machine heats up or is shared, "
        "so the milliseconds hold for this moment only",
    ),
    (
        {"busy": [0.5] * 20},
        "other work held the processor core for 50 % of the time: stop it or choose other cores",
    ),
    (
        {"quartiles_ms": (0.0149, 0.015, 0.0151)},
        "one run takes 15 microseconds, of which calling the runtime from Python is a large part: "
        "measure a larger batch",
    ),
]


@pytest.mark.parametrize(("changes", "reason"), CASES)
def test_each_cause_of_doubt_has_its_sentence(changes: dict[str, object], reason: str) -> None:
    assert judge(**changes) == (reason,)  # type: ignore[arg-type]


def test_one_disturbed_burst_is_no_reason() -> None:
    assert judge(busy=[0.99] * 19 + [0.2]) == ()


def test_on_several_cores_other_work_counts_and_less_of_it_is_borne() -> None:
    assert judge(busy=[0.9] * 20) == ()
    assert judge(busy=[0.9] * 20, one_core=False) == (
        "other work held the processor core for 10 % of the time: stop it or choose other cores",
    )
