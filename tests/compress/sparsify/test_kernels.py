from __future__ import annotations

import torch
from edgelathe.compress.sparsify.kernels import pool, refusal, spread


def test_a_kernel_is_scored_by_the_mean_of_its_taps_and_goes_as_a_whole() -> None:
    scores = torch.zeros(2, 2, 3, 3)
    scores[0, 1] = torch.arange(9.0).reshape(3, 3)
    assert pool(scores).tolist() == [[0.0, 4.0], [0.0, 0.0]]
    mask = spread(pool(scores) > 0, scores.shape)
    assert mask.shape == scores.shape
    assert mask.flatten(2).sum(2).tolist() == [[0, 9], [0, 0]]


def test_single_weights_are_no_kernels() -> None:
    assert refusal((4, 4, 3, 3)) == ""
    assert refusal((4, 4, 1, 1)) == refusal((4, 4)) == "its kernels are single weights"
