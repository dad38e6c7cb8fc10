"""Batch norm over the whole batch where several processes hold a share of it each.

Mean and variance of the shares are merged (Chan et al. 1979), so that the processes normalise as one with the whole
batch does, up to the order of its sums. torch's SyncBatchNorm takes GPU tensors only. For inputs x of all N positions
of a channel, y = gamma x^ + beta with x^ = (x - mean) / std, and dy the gradient of the loss in y:

    dx = gamma / std (dy - sum(dy) / N - x^ sum(dy x^) / N)         sums over all processes

of which sum(dy) and sum(dy x^) are the gradients of beta and gamma that each process computes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .parallel import Team


@contextmanager
def synced_norms(modules: Iterable[nn.Module | None], team: Team) -> Iterator[None]:
    """Let batch norms within `modules`, in train mode, work on the batch of all processes; alone, change nothing."""
    norms = [norm for module in modules if module for norm in module.modules() if isinstance(norm, _BatchNorm)]
    if team.size == 1:
        norms = []
    for norm in norms:
        norm.forward = _synced(norm, team)  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _synced(norm: _BatchNorm, team: Team) -> Callable[[Tensor], Tensor]:
    plain = norm.forward

    def forward(x: Tensor) -> Tensor:
        if not norm.training:
            return plain(x)
        mean, variance, count = _merged(x, team)
        _remember(norm, mean, variance, count)
        channels = x.shape[1]
        weight = norm.weight if norm.weight is not None else torch.ones(channels)
        bias = norm.bias if norm.bias is not None else torch.zeros(channels)
        return _Normalised.apply(x, weight, bias, mean, variance, count, norm.eps, team)

    return forward


def _merged(x: Tensor, team: Team) -> tuple[Tensor, Tensor, float]:
    """Mean and variance float32 [C] over all processes, and how many positions they are over."""
    channels = x.shape[1]
    dims = [0, *range(2, x.ndim)]
    variance, mean = torch.var_mean(x.detach().float(), dims, correction=0)
    parts = team.gathered(torch.cat([mean, variance, mean.new_tensor([x.numel() / channels])]))
    means, variances, counts = parts[:, :channels], parts[:, channels:-1], parts[:, -1:]
    shares = counts / counts.sum()
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    return mean, variance, float(counts.sum())


@torch.no_grad()
def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: float, eps: float,
        team: Team,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.eps, ctx.team = count, eps, team
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        straight, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        over_all = [by_weight.clone(), by_bias.clone()]
        ctx.team.sum(over_all)
        inverse = torch.rsqrt(variance + ctx.eps)
        slope = weight * inverse.square() * over_all[0] / ctx.count
        offset = weight * inverse * over_all[1] / ctx.count - slope * mean
        shape = [1, -1, *[1] * (x.ndim - 2)]
        through_statistics = torch.addcmul(offset.view(shape), x.float(), slope.view(shape))
        return (straight - through_statistics).to(x.dtype), by_weight, by_bias, None, None, None, None, None
