"""Filter pruning by geometric median (He et al. 2019, FPGM).

    g(i) = sum_j || F_i - F_j ||_2

over the raw filters F of one layer. The filter with the smallest sum lies nearest to the layer's geometric
median: the others can stand in for it. (Distances are taken between weights, not between their magnitudes.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def fpgm(filters: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters [out_channels, fan_in]: sum of distances to all others."""
    # The plain formula: torch's faster route through a matrix product loses the small distances that matter
    # here.
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
