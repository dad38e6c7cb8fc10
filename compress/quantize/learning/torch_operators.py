"""ONNX operators as plain PyTorch functions, differentiable where PyTorch is.

Each takes the node's attributes and its inputs in ONNX order, None for one left out. Integers that describe shapes
stay on the CPU, so that reading them never waits for another device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from .torch_windows import average_pool, conv, conv_transpose, global_average_pool, max_pool

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor | tuple[Tensor, ...]]


def _ints(tensor: Tensor) -> list[int]:
    return [int(number) for number in tensor.reshape(-1).tolist()]


# --- products and norms --------------------------------------------------------------------------------------


def gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.t() if a.get("transA", 0) else x
    product = x @ (weight.t() if a.get("transB", 0) else weight)
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    product = product if alpha == 1.0 else product * alpha
    if bias is None:
        return product
    return product + (bias if beta == 1.0 else bias * beta)


def batch_normalization(a: Attributes, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, gamma, beta, training=False, eps=a.get("epsilon", 1e-5))


def layer_normalization(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    normalized = F.layer_norm(x, x.shape[a.get("axis", -1) :], eps=a.get("epsilon", 1e-5)) * scale
    return normalized if bias is None else normalized + bias


def reducing(reduction: Callable[..., Tensor]) -> Operator:
    """Axes are an attribute in old opsets and an input in new ones; none at all means every axis."""

    def reduce_axes(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = list(a.get("axes") or []) if axes is None else _ints(axes)
        if not chosen and a.get("noop_with_empty_axes", 0):
            return x
        return reduction(x, dim=tuple(chosen or range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))

    return reduce_axes


# --- one value at a time -------------------------------------------------------------------------------------


def plain(function: Callable[..., Tensor]) -> Operator:
    """An operator without attributes."""
    return lambda _, *inputs: function(*inputs)


def folding(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs from a function of two."""
    return lambda _, *inputs: reduce(function, inputs)


def div(x: Tensor, y: Tensor) -> Tensor:
    whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.div(x, y, rounding_mode="trunc" if whole else None)


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def leaky_relu(a: Attributes, x: Tensor) -> Tensor:
    return F.leaky_relu(x, a.get("alpha", 0.01))


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope)


def elu(a: Attributes, x: Tensor) -> Tensor:
    return F.elu(x, a.get("alpha", 1.0))


def hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0.0, 1.0)


def gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", "none"))


def softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, dim=a.get("axis", -1))


def cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(getattr(torch, ir.DataType(a["to"]).numpy().name))


# --- moving data ---------------------------------------------------------------------------------------------


def concat(a: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=a["axis"])


def slice_(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    firsts, lasts = _ints(starts), _ints(ends)
    along = list(range(len(firsts))) if axes is None else _ints(axes)
    strides = [1] * len(firsts) if steps is None else _ints(steps)
    cut: list[slice] = [slice(None)] * x.ndim
    for first, last, axis, stride in zip(firsts, lasts, along, strides, strict=True):
        if stride > 0:
            cut[axis] = slice(first, last, stride)
            continue
        # PyTorch has no negative steps, and an end before the first element cannot be written as an index.
        until = None if last < -x.shape[axis] else last
        backwards = torch.tensor(range(*slice(first, until, stride).indices(x.shape[axis])), device=x.device)
        x = x.index_select(axis, backwards)
    return x[tuple(cut)]


def pad(a: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    amounts = _ints(pads)
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in _ints(axes)]
    begin = dict(zip(along, amounts[: len(along)], strict=True))
    end = dict(zip(along, amounts[len(along) :], strict=True))
    flat = [side.get(axis, 0) for axis in reversed(range(x.ndim)) for side in (begin, end)]
    mode = a.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else float(value))
    while flat and flat[-2:] == [0, 0]:  # PyTorch mirrors the last axes only
        del flat[-2:]
    return F.pad(x, flat, mode={"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode])


def space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    """Channels of the result count place in the block first, channel of the input last."""
    block = a["blocksize"]
    images, channels, height, width = x.shape
    parts = x.reshape(images, channels, height // block, block, width // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(images, -1, height // block, width // block)


def depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    block = a["blocksize"]
    images, channels, height, width = x.shape
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    parts = x.reshape(images, block, block, channels // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(images, -1, height * block, width * block)


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _ints(shape)
    if not a.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    chosen = _ints(axes)
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.get("perm") or tuple(reversed(range(x.ndim))))


def split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    if sizes is not None:
        return torch.split(x, _ints(sizes), dim=axis)
    return torch.split(x, math.ceil(x.shape[axis] / a["num_outputs"]), dim=axis)


def gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    places = indices.to(x.device)
    places = torch.where(places < 0, places + x.shape[axis], places)
    taken = x.index_select(axis, places.reshape(-1))
    return taken.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def gather_nd(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    shared = a.get("batch_dims", 0)
    lead = x.shape[:shared]
    flat, places = x.reshape(-1, *x.shape[shared:]), indices.to(x.device).reshape(-1, *indices.shape[shared:])
    batches = torch.arange(len(flat), device=x.device).reshape(-1, *[1] * (places.ndim - 2))
    taken = flat[(batches, *places.unbind(-1))] if shared else x[tuple(places[0].unbind(-1))][None]
    return taken.reshape(*lead, *taken.shape[1:])


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return x.index_put(tuple(indices.to(x.device).unbind(-1)), updates.to(x.dtype))


def expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.broadcast_to(torch.broadcast_shapes(x.shape, _ints(shape)))


def shape_of(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[a.get("start", 0) : a.get("end", None)], dtype=torch.int64)


def constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value")
    fill = torch.zeros(1) if value is None else torch.from_numpy(value.numpy().copy())
    return fill.reshape(()).expand(_ints(shape)).clone()


def range_(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


OPERATORS: dict[str, Operator] = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add),
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Clip": plain(clip),
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Div": plain(div),
    "Einsum": lambda a, *inputs: torch.einsum(a["equation"], *inputs),
    "Elu": elu,
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Expand": plain(expand),
    "Flatten": flatten,
    "Gather": gather,
    "GatherND": gather_nd,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": plain(global_average_pool),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": plain(F.hardswish),
    "Identity": plain(lambda x: x),
    "LayerNormalization": layer_normalization,
    "LeakyRelu": leaky_relu,
    "Log": plain(torch.log),
    "MatMul": plain(torch.matmul),
    "Max": folding(torch.maximum),
    "MaxPool": max_pool,
    "Min": folding(torch.minimum),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "PRelu": plain(prelu),
    "Pad": pad,
    "Pow": plain(torch.pow),
    "Range": plain(range_),
    "Reciprocal": plain(torch.reciprocal),
    "ReduceL2": reducing(torch.linalg.vector_norm),
    "ReduceMean": reducing(torch.mean),
    "ReduceSum": reducing(torch.sum),
    "Relu": plain(F.relu),
    "Reshape": reshape,
    "ScatterND": plain(scatter_nd),
    "Shape": shape_of,
    "Sigmoid": plain(torch.sigmoid),
    "Slice": plain(slice_),
    "Softmax": softmax,
    "SpaceToDepth": space_to_depth,
    "Softplus": plain(F.softplus),
    "Split": split,
    "Sqrt": plain(torch.sqrt),
    "Squeeze": plain(squeeze),
    "Sub": plain(torch.sub),
    "Tanh": plain(torch.tanh),
    "Transpose": transpose,
    "Unsqueeze": plain(unsqueeze),
    "Where": plain(torch.where),
}
"""By op type; what `prepare` leaves of the classification networks of the zoo and of torchvision."""
