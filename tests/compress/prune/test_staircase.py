from __future__ import annotations

import math
import random

import pytest
from edgelathe.compress.prune.staircase import find_multiple, widths_to_measure
from hypothesis import given, settings
from hypothesis import strategies as st


def test_widths_that_tell_the_multiple() -> None:
    assert widths_to_measure(16) == (16, 15, 14, 12, 8)
    assert widths_to_measure(24) == (16, 15, 14, 12, 8)
    assert widths_to_measure(64) == widths_to_measure(960) == (64, 63, 62, 60, 56, 48, 32)
    assert widths_to_measure(3) == ()


@settings(max_examples=150, deadline=None)
@given(
    channels=st.sampled_from([16, 32, 64]),
    block=st.sampled_from([4, 8, 16, 32]),
    fixed=st.floats(0.0, 0.1),
    seed=st.integers(0, 10**6),
)
def test_steps_of_any_height_are_found_in_noise(channels: int, block: int, fixed: float, seed: int) -> None:
    """t(w) = fixed + ceil(w / block), read three times within 1 %, one reading in three disturbed by up to 50 %."""
    noise = random.Random(seed)

    def read(width: int) -> list[float]:
        time = fixed * channels / block + math.ceil(width / block)
        readings = [time * noise.uniform(0.99, 1.01) for _ in range(3)]
        readings[noise.randrange(3)] *= noise.uniform(1.0, 1.5)
        return readings

    times = {width: read(width) for width in widths_to_measure(channels)}
    assert find_multiple(times).multiple == min(block, channels)


def test_no_steps() -> None:
    times = {width: [float(width)] for width in widths_to_measure(16)}
    found = find_multiple(times)
    assert found.multiple == 1
    assert found.reason == "15 channels take 94% of the time of 16"


def test_narrower_and_slower_counts_as_dominated() -> None:
    """Widths that are no multiple of 16 leave the runtime's fast path, as blocked layouts do."""
    times = {width: [math.ceil(width / 16) * (1.0 if width % 16 == 0 else 1.7)] for width in widths_to_measure(64)}
    found = find_multiple(times)
    assert found.multiple == 16
    assert found.reason == "48 channels take 75% and 56 channels take 170% of the time of 64"


def test_nothing_is_gained_by_any_cut() -> None:
    found = find_multiple({16: [5.0], 15: [5.1], 14: [4.9], 12: [5.0], 8: [5.0]})
    assert found.multiple == 16
    assert found.reason == "8 channels take 100% of the time of 16"


def test_a_step_inside_the_block_forbids_it() -> None:
    times = {64: [8.0], 63: [8.0], 62: [8.0], 60: [8.0], 56: [7.0], 48: [6.0], 32: [4.0]}
    assert find_multiple(times).multiple == 8


@pytest.mark.parametrize(("lower", "multiple"), [(0.975, 64), (0.965, 1)])
def test_what_counts_as_the_same_time(lower: float, multiple: int) -> None:
    times = {width: [lower if width < 64 else 1.0] for width in widths_to_measure(64)}
    assert find_multiple(times).multiple == multiple
