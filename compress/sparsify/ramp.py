"""How the share of weights that stay falls during training (Zhu & Gupta 2017).

    s(t) = s_f (1 - (1 - t / T)^3),    kept share = 1 - s(t)

with the final sparsity s_f: fast at first, when much is superfluous, and slower and slower towards T.
"""

from __future__ import annotations

import math

UPDATES_PER_EPOCH = 10
"""How often masks are made anew. A share of the epoch, so that neither batch size nor a killed run moves them."""


def cubic_keep(progress: float, keep: float) -> float:
    """Share that stays when the share `progress` (0 to 1, or beyond) of the ramp is done; `keep` from 1 on."""
    left = (1 - min(max(progress, 0.0), 1.0)) ** 3
    return keep + (1 - keep) * left


def is_update(before: float, after: float) -> bool:
    """Whether masks are made anew at a step that takes training from `before` to `after` epochs."""
    return math.floor(before * UPDATES_PER_EPOCH) != math.floor(after * UPDATES_PER_EPOCH)
