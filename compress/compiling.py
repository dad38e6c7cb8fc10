"""torch.compile for training on a CPU, with what its compiler makes slow rewritten before the compiler sees it.

- Batch norm. Left to the compiler, the variance is found by Welford's serial recurrence, and every element of a feature
  map takes the root of its channel's variance again. Here two sums per channel are taken in one pass, and what is one
  number per channel is stored before elements are touched. Sums are about a mean of few elements ("shifted data", Chan,
  Golub and LeVeque 1983), so that next to no digits cancel.
- ReLU that no convolution reads: its gradient comes from its result. The compiler would keep a mask of bools instead,
  which is slow to read.
- Loops that write where they read: switched off, as slower than those that write elsewhere.

What each is worth: `python -m tests.benchmarks.compiling`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d}


def compile_anew(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """`model` compiled for training, whatever was compiled before."""
    # Compiled code of another network of the same classes, such as the copy on which compiling was tried out, would be
    # taken for this one's, and it calls no hooks.
    torch.compiler.reset()
    return torch.compile(model, backend=_by_inductor)


def _by_inductor(module: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    from torch import _inductor  # its import takes more than a second

    rewrite(module.graph)
    module.recompile()
    return _inductor.compile(module, inputs, options={"inplace_buffers": False})


def rewrite(graph: fx.Graph) -> None:
    """Exchange functions in a graph of torch's functions, in place."""
    for node in graph.nodes:
        if node.target is F.batch_norm:
            node.target = batch_norm
        elif node.target is F.relu and not _in_place(node) and not _CONVOLUTIONS & {user.target for user in node.users}:
            node.target = relu


def _in_place(node: fx.Node) -> object:
    return inspect.signature(F.relu).bind(*node.args, **node.kwargs).arguments.get("inplace", False)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`: [N, C, ...] -> [N, C, ...] of the same dtype, and running statistics moved.

    The arithmetic is float32; without statistics or weights, with fixed statistics, and in float64, it is torch's own.
    """
    exact = x.dtype == torch.float64
    if exact or not training or running_mean is None or running_var is None or weight is None or bias is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    result, mean, variance = _BatchNorm.apply(x, weight, bias, eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        running_mean.copy_(torch.lerp(running_mean, mean, momentum))
        running_var.copy_(torch.lerp(running_var, variance * (count / (count - 1)), momentum))
    return result


class _BatchNorm(torch.autograd.Function):
    """With mean and variance of N positions of a channel, and dy the gradient of the loss in the result y:

    dx = weight / std (dy - sum(dy) / N - (x - mean) sum(dy (x - mean)) / N / variance)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        share = x.shape[1] / x.numel()
        near = _stored(_by_channel(x[:1].float()) * (share * len(x)))
        off = x.float() - _along(near, x)
        off_mean = _stored(_by_channel(off) * share)
        mean = _stored(near + off_mean)
        variance = _stored((_by_channel(off * off) * share - off_mean * off_mean).clamp_min(0))
        inverse = _stored(torch.rsqrt(variance + eps))
        slope = _stored(weight * inverse)
        offset = _stored(bias - mean * slope)
        ctx.save_for_backward(x, mean, inverse, weight)
        ctx.mark_non_differentiable(mean, variance)
        return (x.float() * _along(slope, x) + _along(offset, x)).to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, weight = ctx.saved_tensors
        dy, share = gradients[0].float(), x.shape[1] / x.numel()
        of_bias = _stored(_by_channel(dy))
        of_weight = _stored(_by_channel(dy * (x.float() - _along(mean, x))) * inverse)
        by_dy = _stored(weight * inverse)
        by_x = _stored(-by_dy * inverse * of_weight * share)
        offset = _stored(-by_dy * of_bias * share - by_x * mean)
        dx = dy * _along(by_dy, x) + x.float() * _along(by_x, x) + _along(offset, x)
        return dx.to(x.dtype), of_weight, of_bias, None


def _by_channel(x: Tensor) -> Tensor:
    return x.sum([0, *range(2, x.ndim)])


def _along(vector: Tensor, x: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (x.ndim - 2))


def _stored(vector: Tensor) -> Tensor:
    # The compiler stores whatever is given strides; all else of one number per channel it would put into the loop over
    # elements, and compute anew for each.
    return vector.as_strided(vector.shape, (1,))


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.relu`, not in place."""
    assert not inplace
    result: Tensor = _Relu.apply(x)
    return result


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.relu()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return gradients[0] * result.sign()
