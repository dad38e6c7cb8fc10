from __future__ import annotations

import numpy as np

from .packed_size import LONGEST_RUN, huffman_bytes, run_lengths


def test_a_huffman_code_by_hand() -> None:
    symbols = np.repeat([0, 1, 2, 3], [4, 2, 1, 1])  # codes of 1, 2, 3 and 3 bits
    assert huffman_bytes(symbols) == (4 * 1 + 2 * 2 + 3 + 3) / 8 + 4
    assert huffman_bytes(np.zeros(16, np.int64)) == 2 + 1


def test_runs_of_zeros_by_hand() -> None:
    values, lengths = run_lengths(np.array([9, 0, 0, 5, 7, 0]), 0)
    assert values.tolist() == [9, 5, 7]
    assert lengths.tolist() == [0, 2, 0]


def test_a_long_run_goes_on_behind_a_zero() -> None:
    symbols = np.zeros(2 * LONGEST_RUN + 10, np.int64)
    symbols[-1] = 3
    values, lengths = run_lengths(symbols, 0)
    assert values.tolist() == [0, 0, 3]
    assert lengths.tolist() == [LONGEST_RUN, LONGEST_RUN, 7]
