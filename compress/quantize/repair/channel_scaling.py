"""Which channels of a graph can be multiplied by positive factors without changing what it computes.

A ReLU, a sum, a pooling and an option A shortcut hand a factor on; a convolution or matrix product takes it out again
with its weights. So the channels of a whole residual stage share their factors, those inside a block are free, and what
an int8 code is spread over can be evened out between channels (Nagel et al. 2019, where layers come in pairs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, rank
from ..passes.shortcut_to_convolution import selects_channels
from ..placing.refusals import WITH_WEIGHTS
from ..weights import output_axis

SAME_CHANNELS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout")


@dataclass(frozen=True)
class ChannelGroups:
    of_value: dict[str, np.ndarray]
    """By the name of a value, int64 [channels]: the group of each of its channels, which share one factor."""
    free: np.ndarray
    """bool [groups]: False where the factor must stay 1."""


def channel_groups(model: ir.Model) -> ChannelGroups:
    """Groups over all values whose second axis is known to count channels."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    counts = {value: count for value in values if (count := _channels(value)) is not None}
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False))
    parent = np.arange(sum(counts.values()) + 1)
    held = len(parent) - 1

    def root(channel: int) -> int:
        while parent[channel] != channel:
            parent[channel] = parent[parent[channel]]
            channel = int(parent[channel])
        return channel

    def join(one: ir.Value, other: ir.Value, shift: int = 0) -> None:
        for channel in range(counts[one]):
            if 0 <= channel + shift < counts[other]:
                parent[root(starts[one] + channel)] = root(starts[other] + channel + shift)

    def hold(*several: ir.Value | None) -> None:
        for value in several:
            if value in counts:
                for channel in range(counts[value]):
                    parent[root(starts[value] + channel)] = root(held)

    hold(*model.graph.inputs, *model.graph.outputs)
    for node in model.graph:
        data, result = [value for value in node.inputs if constant(value) is None], node.outputs[0]
        if not all(value in counts for value in (*data, result)) or len(node.outputs) > 1:
            hold(*node.inputs, *node.outputs)
        elif selects_channels(node):
            weight = constant(node.inputs[1])
            assert weight is not None
            for channel, source in np.argwhere(weight[:, :, 0, 0]).tolist():
                parent[root(starts[result] + channel)] = root(starts[data[0]] + source)  # type: ignore[index]
        elif _takes_factors_out(node):
            continue
        elif node.op_type in SAME_CHANNELS or (node.op_type == "Add" and len(data) == 2) or _only_flattens(node):
            if any(counts[value] != counts[result] for value in data):  # type: ignore[index]
                hold(*data, result)
            for value in data:
                join(value, result)  # type: ignore[arg-type]
        elif node.op_type == "Concat" and integer(node, "axis", 1) == 1 and len(data) == len(node.inputs):
            shift = 0
            for value in data:
                join(value, result, shift)  # type: ignore[arg-type]
                shift += counts[value]  # type: ignore[index]
        else:
            hold(*data, result)
    roots = np.array([root(channel) for channel in range(len(parent))])
    names, groups = np.unique(roots, return_inverse=True)
    free = names != root(held)
    return ChannelGroups({str(v.name): groups[starts[v] : starts[v] + counts[v]] for v in counts}, free)


def scale_channels(model: ir.Model, groups: ChannelGroups, factors: np.ndarray) -> ir.Model:
    """A copy in which every channel is larger by the factor of its group, and the function the same.

    `factors` is positive, float [groups], and 1 where a group is not free.
    """
    scaled = model.clone()
    for node in scaled.graph:
        if not _takes_factors_out(node) or selects_channels(node):
            continue
        weight, bias = (constant(value) for value in (*node.inputs[1:], None)[:2])
        assert weight is not None
        before, after = (_factors(value, groups, factors) for value in (node.inputs[0], node.outputs[0]))
        if (before == 1).all() and (after == 1).all():
            continue
        rewritten = weight / _along(before, weight, node, reads=True) * _along(after, weight, node, reads=False)
        _replace(scaled, node, 1, rewritten)
        if bias is not None:
            _replace(scaled, node, 2, bias * (after if bias.ndim else after[0]))
    ir.passes.common.RemoveUnusedNodesPass()(scaled)
    return scaled


def _channels(value: ir.Value) -> int | None:
    shape = value.shape
    if shape is None or len(shape) not in (2, 4) or not isinstance(shape[1], int):
        return None
    return shape[1] if value.name else None


def _takes_factors_out(node: ir.Node) -> bool:
    """Whether the channels that a node reads and those that it writes are scaled by its weights."""
    if node.op_type not in WITH_WEIGHTS or constant(node.inputs[1]) is None:
        return False
    if node.op_type != "Conv" and rank(node.inputs[0]) != 2:
        return False
    if node.op_type == "Gemm" and integer(node, "transA", 0):
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or (constant(bias) is not None and rank(bias) == 1)


def _only_flattens(node: ir.Node) -> bool:
    """From one number per channel to a row of them."""
    if node.op_type not in ("Flatten", "Reshape", "Squeeze"):
        return False
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is None or len(result.shape) != 2:
        return False
    return list(source.shape[2:]) in ([], [1, 1]) and source.shape[1] == result.shape[1]


def _factors(value: ir.Value | None, groups: ChannelGroups, factors: np.ndarray) -> np.ndarray:
    assert value is not None
    return factors[groups.of_value[str(value.name)]].astype(np.float64)


def _along(factors: np.ndarray, weight: np.ndarray, node: ir.Node, *, reads: bool) -> np.ndarray:
    """The factors of the channels read or written, in a shape that broadcasts against the weight."""
    axis, parts = output_axis(node), integer(node, "group", 1)
    shape = [1] * weight.ndim
    if not reads:
        shape[axis] = -1
        return factors.reshape(shape)
    if parts == 1:
        shape[1 - axis] = -1
        return factors.reshape(shape)
    by_part = factors.reshape(parts, weight.shape[1])
    return np.repeat(by_part, len(weight) // parts, axis=0).reshape(len(weight), weight.shape[1], 1, 1)


def _replace(model: ir.Model, node: ir.Node, position: int, array: np.ndarray) -> None:
    name = unused_name(model.graph, f"{node.outputs[0].name}_{('weight', 'bias')[position - 1]}_scaled")
    node.replace_input_with(position, add_initializer(model.graph, name, array.astype(np.float32)))


def unused_name(graph: ir.Graph, name: str) -> str:
    """`name`, with what it takes to differ from the initializers that are there."""
    while name in graph.initializers:
        name += "_"
    return name
