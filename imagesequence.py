"""Images that become network inputs only where they are looked at, so that calibration stays small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Preprocess


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """`x` uint8 [N, H, W, C] seen as float32 [N, C, H, W]: slices are read and normalised when they are taken."""

    x: np.ndarray
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, cut: slice) -> np.ndarray:
        return self.preprocess(self.x[cut])
