"""First-order Taylor expansion of the loss (Molchanov et al. 2019), in its variant over weights.

Setting weight w_s to zero changes the loss by g_s w_s to first order; squared, and summed over the weights S_k of a
filter:

    I_k = sum_{s in S_k} (g_s w_s)^2

with g the gradient of the mean loss over the samples. (Their variant over gates, one behind each batch norm, and that
of Molchanov et al. 2017 over activations look at other gradients; the square of the sum, instead of the sum of
squares, vanishes for filters that a batch norm in training rescales.)
"""

from __future__ import annotations

from torch import Tensor


def taylor(filters: Tensor, gradients: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters and gradients, both [out_channels, fan_in]."""
    return (filters * gradients).square().sum(dim=1)
