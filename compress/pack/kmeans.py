"""k-means of numbers on a line: few values that stand for many, with the least squared error that Lloyd's steps find.

Han et al. 2016 (Deep Compression) place the first centroids evenly between the smallest and the largest weight: large
weights are few and matter most, and centroids drawn by density would leave them without one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEPS = 300


@dataclass(frozen=True)
class Clusters:
    centroids: np.ndarray
    """float64 [count], ascending."""
    indices: np.ndarray
    """int64, of the shape of the values: the nearest centroid, the lower one of two."""
    errors: tuple[float, ...]
    """Sum of squared errors of the first centroids and after every step; never rises."""


def linear_centroids(low: float, high: float, count: int) -> np.ndarray:
    """float64 [count]: evenly spaced from `low` to `high`, both included; the middle alone for one."""
    return np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])


def kmeans(values: np.ndarray, count: int, *, steps: int = STEPS) -> Clusters:
    """Cluster finite `values` of any shape, at least one, around `count` centroids, by Lloyd's algorithm.

    It ends when no value changes its centroid, or after `steps`. Centroids lie within the values; one that no value
    is nearest to stays where it is.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = linear_centroids(ordered[0], ordered[-1], count)
    borders = _borders(ordered, centroids)
    errors = [_error(ordered, centroids, borders)]
    for _ in range(steps):
        members = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(members, 1)
        centroids = np.where(members > 0, np.clip(means, ordered[0], ordered[-1]), centroids)
        before, borders = borders, _borders(ordered, centroids)
        errors.append(_error(ordered, centroids, borders))
        if np.array_equal(before, borders):
            break
    return Clusters(centroids, np.searchsorted(_middles(centroids), values, side="left"), tuple(errors))


def _middles(centroids: np.ndarray) -> np.ndarray:
    return (centroids[:-1] + centroids[1:]) / 2


def _borders(ordered: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Centroid k stands for ordered[borders[k] : borders[k + 1]]."""
    inner = np.searchsorted(ordered, _middles(centroids), side="right")
    return np.concatenate([[0], inner, [ordered.size]])


def _error(ordered: np.ndarray, centroids: np.ndarray, borders: np.ndarray) -> float:
    return float(np.square(ordered - np.repeat(centroids, np.diff(borders))).sum())
