"""Float32 weights as float16 numbers: 11 significant bits, sizes from 6e-8 to 65,504."""

from __future__ import annotations

import numpy as np

from .weight_only import Encoded, encoded

LARGEST = 65504.0


def float16(weight: np.ndarray, _axis: int) -> Encoded | str:
    """Rounded to nearest; or the reason why not."""
    largest = float(np.abs(weight).max(initial=0.0))
    if largest > LARGEST:
        return f"its largest weight, {largest:.3g}, is beyond float16"
    return encoded(weight, weight.astype(np.float16), None)
