from __future__ import annotations

import torch
from edgelathe.compress.sparsify.n_of_m import n_of_m, refusal
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.sampled_from([(), (1, 1), (3, 3), (2,)]))
def test_exactly_n_of_every_m_input_channels_stay(n: int, more: int, runs: int, taps: tuple[int, ...]) -> None:
    m = n + more
    generator = torch.Generator().manual_seed(7 * n + more)
    scores = torch.rand(2, runs * m, *taps, generator=generator)
    mask = n_of_m(scores, n, m)
    counts = mask.movedim(1, -1).unflatten(-1, (runs, m)).sum(-1)
    assert mask.shape == scores.shape
    assert bool((counts == n).all())
    assert torch.equal(n_of_m(scores * mask, n, m), mask), "what is pruned already stays so"


def test_two_of_four_by_hand() -> None:
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0, 5.0, 5.0, 5.0, 0.0]])
    assert n_of_m(scores, 2, 4).tolist() == [[False, True, False, True, True, True, False, False]]


def test_channels_of_one_tap_compete_and_not_the_taps_of_one_channel() -> None:
    scores = torch.zeros(1, 4, 1, 2)
    scores[0, :2, 0, 0] = 1
    scores[0, 2:, 0, 1] = 1
    assert torch.equal(n_of_m(scores, 2, 4), scores.bool())


def test_channels_must_come_in_whole_runs() -> None:
    assert refusal((8, 12, 3, 3), 4) == ""
    assert refusal((8, 3, 3, 3), 4) == "its 3 input channels are no multiple of 4"
