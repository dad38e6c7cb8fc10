"""ONNX convolutions and poolings as PyTorch functions: uneven and automatic pads, any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = Mapping[str, Any]


def _window(a: Attributes, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads [begin..., end...] of a convolution or pooling."""
    rank = len(kernel)
    strides, dilations = list(a.get("strides") or [1] * rank), list(a.get("dilations") or [1] * rank)
    automatic = a.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size)
            for size, stride, width, dilation in zip(x.shape[2:], strides, kernel, dilations, strict=True)
        ]
        less, more = [pad // 2 for pad in total], [pad - pad // 2 for pad in total]
        return strides, dilations, less + more if automatic == "SAME_UPPER" else more + less
    return strides, dilations, list(a.get("pads") or [0] * 2 * rank)


def _padded(x: Tensor, pads: Sequence[int], value: float) -> tuple[Tensor, list[int]]:
    """`x` padded by what its two ends differ in being padded by, and the symmetric rest: what PyTorch takes."""
    rank = len(pads) // 2
    if list(pads[:rank]) == list(pads[rank:]):
        return x, list(pads[:rank])
    flat = [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)]
    return F.pad(x, flat, value=value), [0] * rank


def conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations, pads = _window(a, x, weight.shape[2:])
    x, symmetric = _padded(x, pads, 0.0)
    return torch.convolution(
        x, weight, bias, strides, symmetric, dilations, False, [0] * len(symmetric), a.get("group", 1)
    )


def conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations, pads = _window(a, x, weight.shape[2:])
    rank = len(strides)
    more = list(a.get("output_padding") or [0] * rank)
    whole = torch.convolution(x, weight, bias, strides, [0] * rank, dilations, True, more, a.get("group", 1))
    for axis in range(rank):
        length = whole.shape[axis + 2] - pads[axis] - pads[axis + rank]
        whole = whole.narrow(axis + 2, pads[axis], length)
    return whole


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    strides, dilations, pads = _window(a, x, kernel)
    x, symmetric = _padded(x, pads, -math.inf)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return pool(x, kernel, strides, symmetric, dilations, ceil_mode=bool(a.get("ceil_mode", 0)))


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    strides, _, pads = _window(a, x, kernel)
    pool: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    ceil, counts_pads = bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0))
    padded, symmetric = _padded(x, pads, 0.0)
    pooled = pool(padded, kernel, strides, symmetric, ceil, counts_pads)
    if padded is x or counts_pads:
        return pooled
    inside, _ = _padded(torch.ones_like(x[:1, :1]), pads, 0.0)
    return pooled / pool(inside, kernel, strides, symmetric, ceil, counts_pads)


def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
