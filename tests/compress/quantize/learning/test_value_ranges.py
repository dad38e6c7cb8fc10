from __future__ import annotations

import pytest
import torch
from edgelathe.compress.quantize.learning.value_ranges import (
    DECAY,
    LEAST_STEP,
    RANGES,
    LearnedSteps,
    ObservedRanges,
    Ranges,
)
from edgelathe.compress.quantize.placing.targets import TARGETS
from edgelathe.compress.quantize.value_codes import Codes
from hypothesis import given
from hypothesis import strategies as st

CODES = [Codes(0.5, 0), Codes(0.25, 100), Codes(1.0, 120)]
FIXED = [False, False, True]
X86, ARM = TARGETS["x86-vnni"], TARGETS["arm64"]
FREE = (-float("inf"), float("inf"))


@pytest.mark.parametrize("ranges", RANGES)
def test_it_begins_with_what_was_calibrated(ranges: Ranges) -> None:
    values = RANGES[ranges](CODES, FIXED, X86)
    assert values.codes() == CODES
    assert [values.scale(group) for group in range(3)] == [0.5, 0.25, 1.0]
    signed = [Codes(code.scale, code.zero_point - 128) for code in CODES]
    assert RANGES[ranges](signed, FIXED, ARM).codes() == signed


@pytest.mark.parametrize("ranges", RANGES)
def test_it_clips_where_the_codes_end(ranges: Ranges) -> None:
    values = RANGES[ranges](CODES, FIXED, X86)
    x = torch.tensor([[-1e6, 0.0, 1e6]])
    assert values.quantize(0, x).tolist() == [[0.0, 0.0, 127.5]]
    assert values.quantize(1, x).tolist() == [[-25.0, 0.0, 38.75]]
    signed = RANGES[ranges]([Codes(0.25, -28)], [False], ARM)
    assert signed.quantize(0, x).tolist() == [[-25.0, 0.0, 38.75]]


def test_averages_move_by_what_a_step_saw_and_clips_bound_it() -> None:
    values = ObservedRanges(CODES, FIXED, X86)
    values.observe(0, torch.tensor([-3.0, 50.0]), (0.0, 6.0))
    values.observe(0, torch.tensor([1.0, 2.0]), (0.0, 6.0))
    assert values.codes() == CODES, "this step still uses the old ranges"
    values.step()
    assert values.ends[0].tolist() == pytest.approx([0.0, DECAY * 127.5 + (1 - DECAY) * 6.0])
    assert values.codes()[1:] == CODES[1:]
    values.step()
    assert values.ends[0].tolist() == pytest.approx([0.0, DECAY * 127.5 + (1 - DECAY) * 6.0])


@pytest.mark.parametrize("ranges", RANGES)
def test_codes_that_are_held_stay(ranges: Ranges) -> None:
    values = RANGES[ranges](CODES, FIXED, X86)
    for _ in range(5):
        x = torch.full((1, 4), 7.0, requires_grad=True)
        values.observe(2, x, FREE)
        values.quantize(2, x).sum().backward()
        values.step()
        with torch.no_grad():
            for parameter in values.parameters():
                if parameter.grad is not None:
                    parameter -= parameter.grad
    assert values.codes()[2] == CODES[2]


def test_steps_are_learned_and_never_vanish() -> None:
    values = LearnedSteps(CODES, FIXED, X86)
    values.quantize(0, torch.tensor([[0.3, 500.0]])).sum().backward()
    gradient = values.scales[0].grad
    assert gradient is not None
    assert float(gradient) == pytest.approx((1 - 0.6 + 255) / (2 * 255) ** 0.5, rel=1e-5)
    with torch.no_grad():
        values.scales[0].fill_(-3.0)
    assert values.scale(0) == 0.5 * LEAST_STEP
    assert values.codes()[0].zero_point == 0


@given(low=st.floats(-100, 50), high=st.floats(-50, 100))
def test_zero_stays_exact_whatever_is_seen(low: float, high: float) -> None:
    values = ObservedRanges(CODES, FIXED, X86)
    for _ in range(3):
        values.observe(1, torch.tensor([min(low, high), max(low, high)]), FREE)
        values.step()
    assert float(values.quantize(1, torch.zeros(1, 1))) == 0.0
    assert 0 <= values.codes()[1].zero_point <= 255
