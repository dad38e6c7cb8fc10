from __future__ import annotations

import torch
from edgelathe.compress.sparsify.strided import refusal, strided


def test_kernels_that_read_one_channel_share_the_best_offset() -> None:
    scores = torch.ones(2, 2, 3, 3)
    scores[:, 0].flatten(1)[:, 1::3] = 5  # offset 1 for the first input channel
    scores[0, 1].flatten()[2::3] = 3  # offset 2 for the second, though only one kernel asks for it
    mask = strided(scores, 3).flatten(2)
    assert [mask[0, channel].nonzero().flatten().tolist() for channel in (0, 1)] == [[1, 4, 7], [2, 5, 8]]
    assert torch.equal(mask[0], mask[1])


def test_a_kernel_of_nine_keeps_five_or_four_of_every_second() -> None:
    mask = strided(torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)), 2)
    assert set(mask.flatten(2).sum(2).flatten().tolist()) <= {4, 5}


def test_kernels_with_fewer_taps_than_the_stride_are_left_alone() -> None:
    assert refusal((4, 4, 3, 3), 2) == ""
    assert refusal((4, 4, 1, 1), 2) == "its kernels have 1 tap, fewer than the stride"
    assert refusal((4, 4), 2) == "its kernels have 1 tap, fewer than the stride"
    assert refusal((4, 4, 2, 2), 5) == "its kernels have 4 taps, fewer than the stride"
