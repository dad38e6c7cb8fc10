"""Optimal brain damage (LeCun et al. 1990): what the loss gains by removal, to second order with a diagonal Hessian.

    s_k = 1/2 h_kk u_k^2,    I = sum of s_k over the weights u_k of a filter

At a minimum the first-order term vanishes. h_kk is taken from the diagonal of the empirical Fisher information, the
mean squared gradient, which the Hessian of a cross entropy equals where the network's probabilities are the true ones
(as in Theis et al. 2018, Fisher pruning).
"""

from __future__ import annotations

from torch import Tensor


def obd(filters: Tensor, squared_gradients: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters and squared gradients, both [out_channels, fan_in]."""
    return 0.5 * (squared_gradients * filters.square()).sum(dim=1)
