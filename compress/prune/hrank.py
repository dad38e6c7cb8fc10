"""Rank of feature maps (Lin et al. 2020, HRank): maps of low rank carry little information.

    I_k = mean over images of rank(O_k),    O_k the [h, w] map of channel k for one image

The mean hardly depends on which images are taken, so a few hundred will do. Behind a layer without pixels, a map is
one number, and its rank says whether it is other than zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hrank(maps: Tensor) -> Tensor:
    """Importance float32 [out_channels] of maps [images, out_channels, h, w]: their mean rank over the images."""
    return torch.linalg.matrix_rank(maps).float().mean(dim=0)
