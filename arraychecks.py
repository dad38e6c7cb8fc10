"""Arrays from outside as the images and labels that everything here takes, or the reason why they are none."""

from __future__ import annotations

import numpy as np

from . import errors
from .imagefiles import ImageFiles


def as_pixels(what: str, x: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] of images that are that already, have no channel axis, or are floats in 0..1.

    Raises EdgeLatheError for all others; `what` says whose they are.
    """
    if isinstance(x, ImageFiles):
        return x
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape or (x.shape[1] in (1, 3) and x.shape[3] > 4):
        raise errors.data.wrong_images(what, x.shape, x.dtype, "[N, H, W, C]")
    if np.issubdtype(x.dtype, np.floating):
        finite = np.isfinite(x).all(axis=(1, 2, 3))
        if not finite.all():
            raise errors.data.not_finite(what, int(np.argmin(finite)))
        if x.min() < 0 or x.max() > 1:
            raise errors.data.wrong_range(what, float(x.min()), float(x.max()))
        return np.rint(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise errors.data.wrong_images(what, x.shape, x.dtype, "[N, H, W, C]")
    return np.ascontiguousarray(x)


def as_labels(what: str, y: np.ndarray, count: int, highest: int | None) -> np.ndarray:
    """int64 [count] of whole numbers from 0 to below `highest`. Raises EdgeLatheError for all others."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (count,) or not np.issubdtype(y.dtype, np.integer):
        raise errors.data.wrong_labels(what, y.shape, y.dtype, count)
    outside = (y < 0) if highest is None else (y < 0) | (y >= highest)
    if outside.any():
        index = int(np.argmax(outside))
        raise errors.data.label_out_of_range(what, index, int(y[index]), highest)
    return y.astype(np.int64)
