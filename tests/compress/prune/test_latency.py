from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from edgelathe.compress.prune.latency import MEASUREMENTS, TOLERANCE, find_step
from edgelathe.errors import EdgeLatheError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

LAST = 200


def _macs(step: int) -> int:
    return 10**6 * (LAST + 10 - step) ** 2


def _counted(latency: Callable[[int], float]) -> tuple[Callable[[int], float], Counter[int]]:
    seen: Counter[int] = Counter()

    def measure(step: int) -> float:
        seen[step] += 1
        return latency(step)

    return measure, seen


@settings(max_examples=150, deadline=None)
@given(
    overhead=st.floats(0.0, 0.4),
    block=st.sampled_from([1, 2, 4]),
    keep=st.floats(0.45, 0.95),
    noise=st.floats(0.0, 0.01),
    seed=st.integers(0, 10**6),
)
def test_a_share_of_the_latency_is_hit_in_few_measurements(
    overhead: float, block: int, keep: float, noise: float, seed: int
) -> None:
    draw = random.Random(seed)

    def true(step: int) -> float:
        return overhead + (1 - overhead) * _macs(step // block * block) / _macs(0)

    assume(true(LAST) < keep)
    measure, seen = _counted(lambda step: 7.5 * true(step) * draw.uniform(1 - noise, 1 + noise))
    found = find_step(measure, _macs, LAST, keep)
    assert found.reachable
    assert abs(found.latency / found.whole / keep - 1) <= TOLERANCE
    assert abs(true(found.step) / keep - 1) <= TOLERANCE + 2 * noise
    assert len(found.trials) == sum(seen.values()) <= MEASUREMENTS
    assert seen[found.step] >= 2
    assert found.trials[0] == (0, found.whole)


def test_nothing_but_the_whole_network_is_measured_to_keep_all() -> None:
    measure, seen = _counted(lambda step: 3.0)
    found = find_step(measure, _macs, LAST, 1.0)
    assert (found.step, found.reachable, found.latency) == (0, True, 3.0)
    assert seen == {0: 1}


def test_a_jump_over_the_target_ends_below_it() -> None:
    measure, seen = _counted(lambda step: 1.0 if step < 77 else 0.3)
    found = find_step(measure, _macs, LAST, 0.5)
    assert (found.step, found.latency, found.reachable) == (77, 0.3, True)
    assert seen[77] == 2
    assert sum(seen.values()) <= MEASUREMENTS


def test_unreachable_says_how_far_it_goes() -> None:
    measure, seen = _counted(lambda step: 0.8 + 0.2 * _macs(step) / _macs(0))
    found = find_step(measure, _macs, LAST, 0.5)
    assert not found.reachable
    assert found.step == LAST
    assert math.isclose(found.least / found.whole, 0.8, abs_tol=0.001)
    assert seen[LAST] >= 2


def test_widths_that_are_slower_than_the_whole_network_do_not_end_at_the_narrowest() -> None:
    """Off the fast path everything takes 1.6 times as long; every eighth step is on it, and so is the last."""
    measure, seen = _counted(lambda step: _macs(step) / _macs(0) * (1.0 if step % 8 == 0 else 1.6))
    found = find_step(measure, _macs, LAST, 0.5)
    assert abs(found.latency / 0.5 - 1) <= TOLERANCE
    assert _macs(found.step) / _macs(0) > 0.25
    assert sum(seen.values()) <= MEASUREMENTS


def test_one_disturbed_reading_does_not_decide() -> None:
    readings: Counter[int] = Counter()

    def measure(step: int) -> float:
        readings[step] += 1
        disturbed = step > 0 and sum(readings.values()) == 2
        return _macs(step) / _macs(0) * (1.6 if disturbed else 1.0)

    found = find_step(measure, _macs, LAST, 0.5)
    assert abs(_macs(found.step) / _macs(0) / 0.5 - 1) <= TOLERANCE
    assert readings[found.step] >= 2


@pytest.mark.parametrize("latency", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_latency_is_refused(latency: float) -> None:
    with pytest.raises(EdgeLatheError, match=f"measure returned {latency}, and a latency is a number above 0"):
        find_step(lambda step: latency, _macs, LAST, 0.5)
