from __future__ import annotations

import pytest
import torch
from edgelathe.compress.sparsify.blocks import pool, refusal, spread


def test_the_mean_of_a_block_is_taken_at_each_tap() -> None:
    scores = torch.arange(16.0).reshape(2, 4, 1, 2)
    assert pool(scores, 2, 1).shape == (1, 4, 1, 2)
    # Rows 0 and 1 of input channel 0 at tap 0: 0 and 8.
    assert float(pool(scores, 2, 1)[0, 0, 0, 0]) == 4.0
    # Input channels 0..3 of row 1 at tap 1: 9, 11, 13, 15.
    assert float(pool(scores, 1, 4)[1, 0, 0, 1]) == 12.0


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 4), (2, 2)])
def test_weights_of_a_block_share_their_fate(rows: int, columns: int) -> None:
    kept = torch.rand(8 // rows, 8 // columns, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    mask = spread(kept, rows, columns)
    assert mask.shape == (8, 8, 3, 3)
    assert torch.equal(pool(mask.float(), rows, columns), kept.float())


def test_linear_layers_have_blocks_too() -> None:
    assert spread(pool(torch.ones(4, 8), 4, 1) > 0, 4, 1).shape == (4, 8)


def test_channels_must_come_in_whole_blocks() -> None:
    assert refusal((8, 8), 4, 1) == ""
    assert refusal((10, 8), 4, 1) == "its 10 output channels are no multiple of 4"
    assert refusal((8, 3, 3, 3), 1, 4) == "its 3 input channels are no multiple of 4"
