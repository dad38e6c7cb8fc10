"""How probable each value of a tensor is, given the ones before it: what an entropy coder needs, learnt as it codes.

How large a weight is shows in its neighbours: the positions of its own kernel, the same position in the filters before,
and its own filter so far. Their mean height, rounded to a level, and the side that the neighbours to the left and above
in its kernel lean to choose one of few tables of counts, and every table learns from what is coded with it. The decoder
sees the same neighbours and learns the same, so that no table is stored. Tables go on from tensor to tensor.

Everything is computed in whole numbers: a decoder on another processor must come to the same tables, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

HEIGHTS = 256
"""Values are compared by their heights: whole numbers from -128 to 127 in proportion to them."""
EVERY_HEIGHT = np.arange(-HEIGHTS // 2, HEIGHTS // 2)

LEVELS = 12
FIRST_EDGE, EDGE_RATIO = 8, (17, 10)
"""Levels end at mean heights of 0.5, 0.85, ...; means are counted in sixteenths."""
SIDES = 3
"""Neighbours that lean to no side, to one, and strongly so: tables of one side are those of the other, mirrored."""

SEEN = 32
"""What one value that was seen adds to the counts; every value starts with 1 beside what the tables say."""
SMEARED = (8, 6, 4, 2)
"""Where values are all whole numbers of a byte, what one adds to its own count and to those of its neighbours on either
side, SEEN in all; but zero, which pruning makes frequent and not its neighbours, adds to its own alone."""
PRIOR = 1 << 10
"""Counts that a table starts with, spread as a two-sided geometric distribution of its level."""
MEMORY = 1 << 15
"""What counts are scaled down to before each tensor, so that tables follow a network from first layer to last."""

START = 20 * 16
"""Mean height before anything is seen."""
WIDEST_BLOCK = 256
NARROWEST_BLOCK = 8
LARGEST_KERNEL = 128

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Given counts int64 [alphabet] and symbols int64 [n] to be coded with them, returns the symbols: an encoder writes
them, a decoder ignores what it is given and returns what it reads."""


def _edges() -> np.ndarray:
    edges = [FIRST_EDGE]
    while len(edges) < LEVELS - 1:
        edges.append(edges[-1] * EDGE_RATIO[0] // EDGE_RATIO[1])
    return np.array(edges, np.int64)


EDGES = _edges()


def _geometric(mean: int) -> np.ndarray:
    """PRIOR spread over heights as theta ** |height|, with theta = mean / (mean + 16)."""
    falling = [1 << 30]
    for _ in range(HEIGHTS // 2):
        falling.append(falling[-1] * mean // (mean + 16))
    spread = [falling[abs(height)] for height in EVERY_HEIGHT]
    return np.array([PRIOR * share // sum(spread) for share in spread], np.int64)


class Contexts:
    """Counts int64 [side, level, height], which tensors are coded with one after the other."""

    def __init__(self) -> None:
        borders = [0, *map(int, EDGES), int(EDGES[-1])]
        levels = [_geometric((low + high) // 2) for low, high in pairwise(borders)]
        self.counts = np.stack([np.stack(levels)] * SIDES)

    def code(self, symbols: np.ndarray, heights: np.ndarray, code: Code) -> None:
        """Code `symbols`, int64 of the shape of the tensor, block by block, and fill in what `code` returns.

        `heights` int64 [alphabet] are those of the values that symbols stand for. Only what was filled in before a
        block decides how it is coded, so that a decoder's `symbols` may start as any numbers below `len(heights)`.
        """
        self.counts = self.counts * MEMORY // np.maximum(self.counts.sum(axis=2, keepdims=True), MEMORY)
        tables = _spread(self.counts, heights)
        before = tables.copy()
        told = _told(heights)
        grid, width = _grid(symbols)
        for row, kernel, columns, levels, leanings in _blocks(grid, heights, width):
            block = grid[row, columns, kernel]
            which = (leanings + SIDES - 1) * LEVELS + levels
            for number in np.flatnonzero(np.bincount(which)):
                lean, level = divmod(int(number), LEVELS)
                here = which == number
                coded = code(tables[lean, level], block[here])
                block[here] = coded
                tables[lean, level] += told[coded].sum(axis=0)
        self._learn(tables - before, heights)

    def _learn(self, learnt: np.ndarray, heights: np.ndarray) -> None:
        for lean in range(1 - SIDES, SIDES):
            seen_at = _mirrored(heights) if lean < 0 else heights
            for level in range(LEVELS):
                np.add.at(self.counts[abs(lean), level], seen_at + HEIGHTS // 2, learnt[lean + SIDES - 1, level])


def _told(heights: np.ndarray) -> np.ndarray:
    """What each symbol adds to the counts of the alphabet: int64 [symbol, alphabet].

    The symbols of bytes lie in the order of their heights, from any one on.
    """
    alone = SEEN * np.eye(len(heights), dtype=np.int64)
    if not np.array_equal(np.sort(heights), EVERY_HEIGHT):
        return alone
    steps = [0, *range(1, len(SMEARED)), *range(1 - len(SMEARED), 0)]
    smeared = sum(SMEARED[abs(step)] * np.roll(alone // SEEN, step, axis=1) for step in steps)
    return np.where(heights[:, None] == 0, alone, smeared)


def _mirrored(heights: np.ndarray) -> np.ndarray:
    return np.minimum(-heights, HEIGHTS // 2 - 1)


def _spread(counts: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Counts of symbols [leaning -2..2, level, symbol] from counts of heights."""
    right = [_of_symbols(counts[side], heights) for side in range(SIDES)]
    left = [_of_symbols(counts[side], _mirrored(heights)) for side in range(SIDES - 1, 0, -1)]
    return 1 + np.stack([*left, *right])


def _of_symbols(counts: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Every height counts for the nearest that a symbol has; symbols of the same height share evenly."""
    known, of_symbol, sharing = np.unique(heights, return_inverse=True, return_counts=True)
    nearest = np.searchsorted(known[:-1] + known[1:], 2 * EVERY_HEIGHT, side="left")
    gathered = np.zeros((len(known), len(counts)), np.int64)
    np.add.at(gathered, nearest, counts.T)
    return gathered[of_symbol].T // sharing[of_symbol]


def _grid(symbols: np.ndarray) -> tuple[np.ndarray, int]:
    """A view [filters, inputs, positions of the kernel], and the width of the kernel.

    What has few inputs (depthwise convolutions) counts as one filter, and what is no kernel as one without positions.
    """
    filters, inputs = symbols.shape[:2] if symbols.ndim > 1 else (1, symbols.size)
    if symbols.size > filters * inputs * LARGEST_KERNEL:
        return symbols.reshape(1, -1, 1), 1
    if inputs < NARROWEST_BLOCK:
        filters, inputs = 1, filters * inputs
    return symbols.reshape(filters, inputs, -1), symbols.shape[-1] if symbols.ndim > 2 else 1


def _blocks(
    grid: np.ndarray, heights: np.ndarray, width: int
) -> Iterator[tuple[int, int, slice, np.ndarray, np.ndarray]]:
    """Filter, position and columns of every block; of its values, levels and leanings (-2..2) of their neighbours.

    A block is read from `grid` after the caller has filled it in.
    """
    filters, inputs, positions = grid.shape
    earlier = np.zeros((positions, inputs), np.int64)
    usual = START
    for row in range(filters):
        own = np.zeros((positions, inputs), np.int64)
        sizes = np.zeros(inputs, np.int64)
        total = seen = 0
        for kernel in range(positions):
            nearby = [own[kernel - 1]] * (kernel % width > 0) + [own[kernel - width]] * (kernel >= width)
            for start in range(0, inputs, WIDEST_BLOCK):
                columns = slice(start, min(start + WIDEST_BLOCK, inputs))
                of_filter = (16 * total + 8 * usual) // (seen + 8)
                of_kernel = (16 * sizes[columns] + of_filter) // (kernel + 1)
                of_column = (16 * earlier[kernel, columns] + 2 * usual) // (row + 2)
                mean = (2 * of_kernel + 2 * of_column + of_filter) // 5
                leanings = _lean([neighbour[columns] for neighbour in nearby], mean)
                yield row, kernel, columns, np.searchsorted(EDGES, mean, side="right"), leanings
                found = heights[grid[row, columns, kernel]]
                own[kernel, columns] = found
                sizes[columns] += np.abs(found)
                total, seen = total + int(np.abs(found).sum()), seen + len(found)
        earlier += np.abs(own)
        usual = (15 * usual + 16 * total // max(seen, 1)) // 16


def _lean(neighbours: list[np.ndarray], mean: np.ndarray) -> np.ndarray:
    """-2..2: how far the mean of the neighbours lies from zero, in 0.4 and 1.2 of the mean height expected."""
    if not neighbours:
        return np.zeros(len(mean), np.int64)
    offset = 5 * 16 * np.sum(neighbours, axis=0)
    some, much = 2 * (mean + 8) * len(neighbours), 6 * (mean + 8) * len(neighbours)
    return np.sign(offset) * ((np.abs(offset) >= some).astype(np.int64) + (np.abs(offset) >= much))
