"""Attention transfer (Zagoruyko & Komodakis 2017): where in the image a layer is active, whatever its channels mean.

    Q(F) = m / || m ||_2    with m = mean over channels of F^2, flattened over positions
    L    = mean over images and positions of ( Q(F_student) - Q(F_teacher) )^2

weighted by 1000 with this mean, as in the authors' code. Scales of maps and numbers of channels cancel, so there is
nothing to regress.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar loss from float32 [N,C,H,W] and [N,K,H,W]."""
    return F.mse_loss(attention_map(student), attention_map(teacher))


def attention_map(maps: Tensor) -> Tensor:
    """Unit vectors, float32 [N, H W], of float32 [N,C,H,W]."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)
