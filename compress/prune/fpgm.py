"""Filter pruning by geometric median (He et al. 2019, FPGM).

    g(i) = sum_j || F_i - F_j ||_2

over the raw filters F of one layer. The filter with the smallest sum lies nearest to the layer's geometric
median: the others can stand in for it. (Distances are taken between weights, not between their magnitudes.)
"""

from __future__ import annotations

from torch import Tensor


def fpgm(filters: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters [out_channels, fan_in]: sum of distances to all others."""
    # Squared distances from a matrix product cancel badly when filters are alike, and those are the ones that matter
    # here: float64 and filters moved to their mean keep the error near 1e-8 of the filters' size.
    centred = filters.double() - filters.double().mean(dim=0)
    squares = centred.square().sum(dim=1)
    distances = (squares[:, None] + squares[None, :] - 2 * centred @ centred.T).clamp_min(0).sqrt()
    return distances.fill_diagonal_(0).sum(dim=1).float()
