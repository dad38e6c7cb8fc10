"""From a range to the scale and zero point of uint8 codes."""

from __future__ import annotations

import numpy as np

LEVELS = 256


def affine(low: float, high: float) -> tuple[float, int]:
    """(scale, zero point) of uint8 codes over [low, high] widened to hold 0 exactly (Jacob et al. 2018)."""
    scales, zero_points = affines(np.array([low]), np.array([high]))
    return float(scales[0]), int(zero_points[0])


def affines(lows: np.ndarray, highs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`affine` of many ranges: float64 [K] of float32 values, and int64 [K]. Without width: scale 1, zero point 0."""
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    scales = ((highs - lows) / (LEVELS - 1)).astype(np.float32).astype(np.float64)
    empty = scales < np.finfo(np.float32).tiny
    scales = np.where(empty, 1.0, scales)
    zero_points = np.clip(np.rint(-lows / scales), 0, LEVELS - 1).astype(np.int64)
    return scales, np.where(empty, 0, zero_points)


def levels(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """float64 [K, 256]: the values that the codes over each range stand for."""
    scales, zero_points = affines(lows, highs)
    return (np.arange(LEVELS) - zero_points[:, None]) * scales[:, None]
