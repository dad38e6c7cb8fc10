"""Teacher's and labels' parts of the loss held in balance by what each has lately been.

    a = alpha CE / (alpha CE + (1 - alpha) KD)

with running means (momentum 0.99) of both parts over batches, so that a KD : (1 - a) CE = alpha : (1 - alpha). At
alpha = 1/2 both parts weigh the same. Both means start at zero, which cancels in the ratio: the first share follows
from the first batch alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...parallel import team

MOMENTUM = 0.99


class Gap(nn.Module):
    """The running means, as buffers: a checkpoint that holds them goes on with the same bits."""

    running: Tensor
    """float64 [2]: the teacher's part, the labels' part."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(2, dtype=torch.float64))

    def forward(self, alpha: float, soft: Tensor, hard: Tensor) -> Tensor:
        """Scalar float64 without gradient, from the per-image parts float32 [N] of this batch, which count already; the
        same in all processes that train together."""
        images = soft.new_tensor(len(soft), dtype=torch.float64)
        sums = torch.stack([soft.detach().double().sum(), hard.detach().double().sum(), images])
        team().sum([sums])
        self.running.lerp_(sums[:2] / sums[2], 1 - MOMENTUM)
        taught, labelled = (1 - alpha) * self.running[0], alpha * self.running[1]
        return torch.where(taught + labelled > 0, labelled / (taught + labelled), self.running.new_tensor(alpha))
