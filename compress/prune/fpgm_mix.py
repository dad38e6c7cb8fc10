"""Filter pruning by norm first and by geometric median among the rest (He et al. 2019, FPGM "mix").

Of the filters to go, a share goes because its norm || F_i ||_2 is smallest; the others because their sum of
distances || F_i - F_j ||_2 to the filters that norm has left is smallest. "Mix 40 %" in the paper is 10 % by norm and
30 % by distance, a share of a quarter.

How many filters will go is not known here, so they are put in an order of which every beginning is mixed in that
share: at each step the next to go is the shortest, or the most replaceable, of those that are left.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fpgm_mix(filters: Tensor, norm_share: float = 0.25) -> Tensor:
    """Importance float32 [out_channels] of filters [out_channels, fan_in]: the place, from 1, in the order of removal.

    norm_share -- share of the filters that go by their norm, 0 to 1.
    """
    distances = torch.cdist(filters.double(), filters.double(), compute_mode="donot_use_mm_for_euclid_dist")
    norms, replaceable = filters.double().square().sum(dim=1), distances.sum(dim=1)
    place = torch.zeros(len(filters))
    by_norm = 0
    for step in range(1, len(filters) + 1):
        if by_norm < math.ceil(norm_share * step - 1e-9):
            gone = int(norms.argmin())
            replaceable = (replaceable - distances[gone]).clamp_min(0)
            by_norm += 1
        else:
            nearest = replaceable <= replaceable.min() * (1 + 1e-9)
            gone = int(norms.where(nearest, torch.inf).argmin())  # of equals, as any two that are left, the shorter
        norms[gone] = replaceable[gone] = torch.inf
        place[gone] = step
    return place
