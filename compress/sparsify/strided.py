"""Every s-th tap of a kernel, counted from an offset (Anwar et al. 2017, intra-kernel strided sparsity).

Taps are counted along the rows of the kernel: those numbered offset, offset + stride, offset + 2 stride ... stay. All
kernels that read one input channel share the offset, so that whole columns vanish from the matrix a convolution is
lowered to, which is what the pattern was made for. No runtime measured here lowers convolutions by such a list.

Reconstruction: the paper searches offsets by an evolutionary particle filter over misclassification rates; here each
input channel takes the offset whose taps have the largest mean score. Offsets that would keep a tap more than others
are compared by that mean, too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def strided(scores: Tensor, stride: int) -> Tensor:
    """Mask, bool of the shape of `scores` [out, in, taps...]: True for every `stride`-th tap."""
    flat = scores.flatten(2)
    by_offset = torch.stack([flat[:, :, offset::stride].mean(dim=(0, 2)) for offset in range(stride)])
    offsets = by_offset.argmax(dim=0)
    taps = torch.arange(flat.shape[2])
    kept = taps[None, :] % stride == offsets[:, None]
    return kept[None].expand(flat.shape).reshape(scores.shape).contiguous()


def refusal(shape: tuple[int, ...], stride: int) -> str:
    """Why a weight of this shape has no such pattern; empty when it has."""
    taps = math.prod(shape[2:])
    return "" if taps >= stride > 1 else f"its kernels have {taps} tap{'s' * (taps > 1)}, fewer than the stride"
