"""Intervals, paired tests and percentiles; nothing here knows what is being measured.

Intervals are 95 % unless a function says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import errors

Z95 = 1.959963984540054
BEYOND = 10
"""Samples that must lie beyond a percentile before it is worth naming."""


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) when there is nothing to judge by."""
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    scale = 1 + Z95**2 / total
    centre = (share + Z95**2 / (2 * total)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, share)."""
    if successes <= 0:
        return 1.0
    if successes > trials or share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    k = np.arange(successes, trials + 1)
    choose = np.array([math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in k.tolist()])
    return float(min(1.0, np.exp(choose + k * math.log(share) + (trials - k) * math.log1p(-share)).sum()))


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that gains and losses are equally likely (McNemar 1947); 1 without any."""
    trials = gained + lost
    return min(1.0, 2 * binomial_tail(max(gained, lost), trials, 0.5)) if trials else 1.0


def quartiles(samples: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    q1, q2, q3 = np.quantile(np.asarray(samples, np.float64), (0.25, 0.5, 0.75))
    return float(q1), float(q2), float(q3)


def percentile(samples: Sequence[float] | np.ndarray, quantile: float) -> float:
    """The `quantile` (0..1) of `samples`. Raises EdgeLatheError when fewer than ten samples lie beyond it."""
    if not 0 < quantile < 1:
        raise errors.inputs.bad_setting("quantile", quantile, "between 0 and 1")
    share = min(quantile, 1 - quantile)
    # The tolerance keeps 1000 samples enough for 0.99, whose complement is not exactly 0.01.
    if len(samples) * share < BEYOND - 1e-9:
        raise errors.bench.too_few_samples(quantile, len(samples), math.ceil(BEYOND / share - 1e-6))
    return float(np.quantile(np.asarray(samples, np.float64), quantile))


def bootstrap_median(values: np.ndarray, *, seed: int, resamples: int = 2000) -> tuple[float, float, float]:
    """Median of `values` (float [n]) with its bootstrap percentile interval (Efron 1979)."""
    values = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


def bootstrap_clusters(
    clusters: Sequence[Sequence[float]], *, seed: int, resamples: int = 2000
) -> tuple[float, float, float]:
    """Median of all values with its bootstrap interval, for values that vary between clusters as well as
    inside them.

    Clusters are drawn one fewer than there are, with replacement, then values inside each: drawing all of
    them would give too narrow an interval for few clusters (Rao & Wu 1988). A single cluster falls back to
    its values alone.
    """
    if len(clusters) == 1:
        return bootstrap_median(np.asarray(clusters[0], np.float64), seed=seed, resamples=resamples)
    lengths = np.array([len(cluster) for cluster in clusters])
    table = np.full((len(clusters), int(lengths.max())), np.nan)
    for row, cluster in zip(table, clusters, strict=True):
        row[: len(cluster)] = cluster
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(clusters), (resamples, len(clusters) - 1))
    inside = (random.random((*drawn.shape, table.shape[1])) * lengths[drawn][..., None]).astype(np.int64)
    medians = np.median(table[drawn[..., None], inside].reshape(resamples, -1), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    middle = float(np.median(table[~np.isnan(table)]))
    return middle, float(min(low, middle)), float(max(high, middle))
