"""Network slimming (Liu et al. 2017): a channel that its batch norm multiplies by little adds little.

    I_k = | gamma_k |

Meant for networks trained with a penalty on gamma, which pushes the scales of channels that are not needed to zero:
the key `sparsity = "bn-scale"` of training stages.
"""

from __future__ import annotations

from torch import Tensor


def bn_scale(norm_scale: Tensor) -> Tensor:
    """Importance float32 [out_channels]: the magnitude of the scale of the batch norm behind the layer."""
    return norm_scale
