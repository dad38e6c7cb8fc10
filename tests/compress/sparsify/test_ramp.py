from __future__ import annotations

import pytest
from edgelathe.compress.sparsify.ramp import UPDATES_PER_EPOCH, cubic_keep, is_update
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(0.01, 0.99))
def test_it_begins_dense_and_ends_at_the_share_asked_for(keep: float) -> None:
    assert cubic_keep(0.0, keep) == pytest.approx(1.0)
    assert cubic_keep(1.0, keep) == cubic_keep(7.0, keep) == keep


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_it_only_falls(keep: float, one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert cubic_keep(early, keep) >= cubic_keep(late, keep)


def test_halfway_seven_eighths_of_what_goes_is_gone() -> None:
    # s = 0.8 (1 - 0.5^3) = 0.7
    assert cubic_keep(0.5, 0.2) == pytest.approx(0.3)


def test_masks_are_made_anew_as_often_whatever_the_batch() -> None:
    for steps in (10, 37, 400):
        updates = sum(is_update(step / steps, (step + 1) / steps) for step in range(2 * steps))
        assert updates == 2 * UPDATES_PER_EPOCH
