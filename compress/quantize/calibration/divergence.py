"""The range whose 256 levels tell most about the values: least Kullback-Leibler divergence (Migacz 2017, TensorRT).

A threshold T cuts the values to [-T, T]. P are the counts by bin, those cut off added to the outermost bins. Q is what
is left of the uncut counts when all bins of a level share them evenly, empty bins apart. The chosen T makes
KL(P, Q) least. Bins are 8 to 16 times finer than levels, so that unlike with as many bins as levels cutting can pay.

The bin that holds zero gets its neighbour's count: after a Relu it holds half of all values, all the same one, and
would decide alone (as in pytorch-quantization's calibrator).
"""

from __future__ import annotations

import numpy as np

from .affine import LEVELS, levels
from .histogram import Histogram

_THRESHOLDS = 256


def entropy(histogram: Histogram) -> tuple[float, float]:
    """Ends beyond the best threshold are cut; a range with no more bins than levels stays whole."""
    width = float(np.ldexp(1.0, histogram.exponent))
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    counts = _without_zero(histogram)
    largest = max(-low, high)
    thresholds = np.linspace(LEVELS * width, largest, _THRESHOLDS) if largest > LEVELS * width else np.array([largest])
    lows, highs = np.maximum(low, -thresholds), np.minimum(high, thresholds)
    best = thresholds[int(np.argmin(_divergences(counts, histogram.first, width, lows, highs)))]
    return max(low, -float(best)), min(high, float(best))


def _without_zero(histogram: Histogram) -> np.ndarray:
    counts, zero = histogram.counts.astype(np.float64), -histogram.first
    if 0 <= zero < len(counts) and len(counts) > 1:
        counts[zero] = counts[zero + 1] if zero + 1 < len(counts) else counts[zero - 1]
    return counts


def _divergences(counts: np.ndarray, first: int, width: float, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """float64 [K]: KL(P, Q) of each range; infinite where Q lacks what P has."""
    first_bin, last_bin = np.floor(lows / width) - first, np.ceil(highs / width) - first - 1
    holds_nothing = (last_bin < 0) | (first_bin >= len(counts))
    begin = np.clip(first_bin, 0, len(counts) - 1).astype(np.intp)
    end = np.clip(last_bin + 1, begin + 1, len(counts)).astype(np.intp)
    values = levels(lows, highs)
    between = np.ceil((values[:, 1:] + values[:, :-1]) / (2 * width) - first - 0.5)
    inner = np.clip(between, begin[:, None], end[:, None]).astype(np.intp)
    ends = np.concatenate([begin[:, None], inner, end[:, None]], axis=1)

    total = _prefix(counts)
    below, above = total[begin], total[-1] - total[end]
    q = np.diff(total[ends], axis=1)
    filled = np.diff(_prefix(counts > 0)[ends], axis=1)
    p = q.copy()
    rows = np.arange(len(lows))
    plogp = _prefix(_xlogx(counts))
    sum_plogp = plogp[end] - plogp[begin]
    for cut, at in ((below, begin), (above, end - 1)):
        level = np.argmax(ends[:, 1:] > at[:, None], axis=1)
        filled[rows, level] += (counts[at] == 0) & (cut > 0)
        p[rows, level] += cut
        sum_plogp += _xlogx(counts[at] + cut) - _xlogx(counts[at])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(q / filled)
        cross = np.where(p > 0, p * share, 0.0).sum(1)
        divergences = (sum_plogp - cross) / total[-1] + np.log(q.sum(1) / total[-1])
    return np.where(holds_nothing | np.isnan(divergences), np.inf, divergences)


def _prefix(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.maximum(values, 1.0))
