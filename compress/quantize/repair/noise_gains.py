"""How loudly the rounding of each value is heard in the logits, from one backward pass.

Rounding errors of one value, independent and of variance v, change the logits by J e. With signs r drawn at random,

    E |J e|^2 = v * E_r |J^T r|^2,

so the squared gradients of r * logits, summed over a value, are the factor between the two variances.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ..learning.torch_graph import TorchGraph


def noise_gains(graph: TorchGraph, names: Collection[str], images: Tensor, random: torch.Generator) -> dict[str, float]:
    """By value: squared change of the logits, summed over them, for an error of variance 1 in each of its elements.

    Means over `images`, float32 [N, C, H, W]. Elements that are exactly 0 are exact in codes and make no noise.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> Tensor:
        if name not in names:
            return x
        x = x if x.requires_grad else x.detach().requires_grad_()
        x.retain_grad()
        kept[name] = x
        return x

    before, graph.on_value = graph.on_value, keep
    try:
        logits = graph(images)
    finally:
        graph.on_value = before
    if not logits.requires_grad:
        return dict.fromkeys(names, 0.0)
    logits.backward(torch.randint(2, logits.shape, generator=random) * 2.0 - 1.0)
    gains = dict.fromkeys(names, 0.0)
    for name, value in kept.items():
        if value.grad is not None:
            gains[name] = float((value.grad * (value.detach() != 0)).square().sum()) / len(images)
    return gains
