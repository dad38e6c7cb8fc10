from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.pack.contexts import (
    EDGES,
    EVERY_HEIGHT,
    HEIGHTS,
    LEVELS,
    MEMORY,
    PRIOR,
    SEEN,
    SIDES,
    SMEARED,
    Contexts,
)

HALF = np.arange(-4, 4) * 16


def nothing_known(_: np.ndarray, block: np.ndarray) -> np.ndarray:
    return block


def test_levels_end_in_the_ratio_of_17_to_10_and_start_at_half_a_height() -> None:
    assert EDGES.tolist()[:4] == [8, 13, 22, 37]
    assert len(EDGES) == LEVELS - 1


def test_tables_start_as_whole_numbers_that_fall_away_from_zero_on_both_sides() -> None:
    counts = Contexts().counts
    assert counts.shape == (SIDES, LEVELS, HEIGHTS)
    assert counts.dtype == np.int64
    middle = HEIGHTS // 2
    np.testing.assert_array_equal(counts[:, :, middle + 1 :], counts[:, :, middle - 1 : 0 : -1])
    assert (np.diff(counts[:, :, middle:]) <= 0).all()
    assert (counts.sum(axis=2) <= PRIOR).all()
    spread = (counts * np.abs(np.arange(-middle, middle))).sum(axis=2) / counts.sum(axis=2)
    assert (np.diff(spread[0]) > 0).all()


@pytest.mark.parametrize("shape", [(5, 9, 3, 3), (20, 1, 3, 3), (7, 300), (11,), (2, 3, 400), ()])
def test_every_value_is_coded_once_from_what_was_filled_in_before(shape: tuple[int, ...]) -> None:
    truth = np.random.default_rng(1).integers(0, 8, shape).astype(np.int64)
    asked: list[tuple[np.ndarray, int]] = []
    sent: list[np.ndarray] = []

    def write(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        asked.append((counts.copy(), len(block)))
        sent.append(block.copy())
        return block

    encoding, decoding = Contexts(), Contexts()
    encoding.code(truth.copy(), HALF, write)
    assert sum(map(len, sent)) == truth.size
    queue = iter(zip(asked, sent, strict=True))

    def read(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        (known, length), symbols = next(queue)
        np.testing.assert_array_equal(counts, known)
        assert len(block) == length
        return symbols

    found = np.full(shape, 3, np.int64)
    decoding.code(found, HALF, read)
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_array_equal(decoding.counts, encoding.counts)


def test_every_symbol_can_be_coded_and_tables_learn_what_was_seen() -> None:
    first: list[np.ndarray] = []

    def watch(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        assert (counts >= 1).all()
        first.append(counts.copy())
        return block

    symbols = np.full((6, 64), 7, np.int64)
    Contexts().code(symbols, HALF, watch)
    shares = [counts[7] / counts.sum() for counts in first]
    assert shares[0] < 0.2
    assert shares[-1] > 0.7


def test_what_one_tensor_taught_serves_the_next_but_fades() -> None:
    contexts = Contexts()
    contexts.code(np.full((40, 256), 128, np.int64), np.arange(-128, 128), nothing_known)
    assert contexts.counts.sum(axis=2).max() > MEMORY
    seen: list[np.ndarray] = []

    def watch(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        seen.append(counts.copy())
        return block

    contexts.code(np.full((3, 256), 128, np.int64), np.arange(-128, 128), watch)
    assert seen[-1][128] / seen[-1].sum() > 0.9
    assert seen[0].sum() <= MEMORY + HEIGHTS


def test_neighbours_that_lean_to_a_side_choose_another_table_than_the_mirrored_ones() -> None:
    """Kernels of one sign: the values behind the first lean to it, and the same tables mirrored serve the other."""
    positive, negative = Contexts(), Contexts()
    heights = np.arange(-128, 128)
    positive.code(np.full((4, 32, 3, 3), 128 + 40, np.int64), heights, nothing_known)
    negative.code(np.full((4, 32, 3, 3), 128 - 40, np.int64), heights, nothing_known)
    np.testing.assert_array_equal(positive.counts[1:], negative.counts[1:])
    assert (positive.counts[0] != negative.counts[0]).any()


@pytest.mark.parametrize(
    ("height", "around"),
    [
        (40, [0, 2, 4, 6, 8, 6, 4, 2, 0]),
        (-128, [0, 2, 4, 6, 8, 6, 4, 2, 0]),  # goes on at the other end
        (0, [0, 0, 0, 0, 32, 0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("heights", [EVERY_HEIGHT, np.roll(EVERY_HEIGHT, 128)], ids=["uint8", "int8"])
def test_a_byte_tells_of_its_neighbours_too_but_zero_of_itself_alone(
    height: int, around: list[int], heights: np.ndarray
) -> None:
    (symbol,) = np.flatnonzero(heights == height)
    before = Contexts()
    after = Contexts()
    after.code(np.array([symbol]), heights, nothing_known)
    learnt = np.roll((after.counts - before.counts).sum(axis=(0, 1)), 4 - 128 - height)
    assert learnt[: len(around)].tolist() == around
    assert learnt.sum() == SEEN == SMEARED[0] + 2 * sum(SMEARED[1:])


def test_symbols_of_a_codebook_tell_of_themselves_alone() -> None:
    after = Contexts()
    after.code(np.array([6]), HALF, nothing_known)
    learnt = (after.counts - Contexts().counts).sum(axis=(0, 1))
    assert np.flatnonzero(learnt).tolist() == [HALF[6] + 128]
