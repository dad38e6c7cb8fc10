"""Give back through biases what quantization shifts the mean of every channel by.

Rounded weights are wrong by a fixed amount, so what they make of inputs whose mean is not zero (all those behind a
ReLU) is off by a fixed amount too, which the next layers take for a signal. Changing a bias costs nothing at run time.

    analytic    b - sum over inputs of (quantized weight - weight) * E[input]       (Nagel et al. 2019, section 4.2)
    empirical   b - E[quantized output - float output], each layer seen with those before it corrected

The analytic shift ignores padding and what rounded activations do; its E[input] are means of the float network. The
empirical one takes one pass of either network over the same few images at a time: means of the float one first, then
the quantized one, in which every layer's mean is put right, over the images at hand, before the next layer reads it.
Where a layer's result
goes into a residual sum alone, it is the sum that is put right: what has gone wrong in the other branch would be there
to stay otherwise (on ResNet-56 that is the difference between losing 0.8 dB and gaining 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, only_consumer, rank
from ..apply import apply_plan
from ..calibration.imagechunks import Images, as_sliceable, check_images
from ..passes.shortcut_to_convolution import selects_channels
from ..plan import QuantPlan
from ..weights import output_axis, quantize_weight
from .channel_means import (
    Progress,
    append,
    average_over_images,
    images_at_a_time,
    mean_of_channels,
    means_by_chunk,
    weighted,
)

Method = Literal["analytic", "empirical"]
DIMENSIONS = {"Conv": 4, "Gemm": 2}
"""Operators that take a bias, with the dimensions of what they read and write."""


def correct_bias(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Images,
    *,
    method: Method,
    reference: ir.Model | None = None,
    on_progress: Progress | None = None,
) -> ir.Model:
    """A copy of the prepared graph with other biases, and biases where there were none.

    Nodes that the plan leaves in float keep their constants, and so do those whose shift is finer than the int32 grid
    of their biases. `reference` is the float network to be like, with the same names: the one from before where
    weights were learned; otherwise `prepared` itself. `on_progress(done, total)` counts images. Memory does not grow
    with the number of images, and the result does not depend on how they are batched.

    Raises EdgeLatheError for unusable images.
    """
    target = prepared if reference is None else reference
    names = [str(node.name) for node in prepared.graph if _correctable(node, plan)]
    if not names:
        return prepared.clone()
    if method == "analytic":
        shifts = _expected_shifts(prepared, plan, target, names, images, on_progress)
    else:
        shifts = _measured_shifts(prepared, plan, target, names, images, on_progress)
    corrected = prepared.clone()
    for node in corrected.graph:
        shift = shifts.get(str(node.name))
        if shift is not None and np.abs(shift / _bias_steps(node, plan)).max() >= 0.5:
            _change_bias(corrected, node, -shift)
    ir.passes.common.RemoveUnusedNodesPass()(corrected)
    return corrected


def _correctable(node: ir.Node, plan: QuantPlan) -> bool:
    return str(node.name) in plan.weights and node.op_type in DIMENSIONS and not selects_channels(node)


def _bias_steps(node: ir.Node, plan: QuantPlan) -> np.ndarray:
    assert node.inputs[0] is not None
    return plan.codes[str(node.inputs[0].name)].scale * plan.weights[str(node.name)].array.astype(np.float64)


def _change_bias(model: ir.Model, node: ir.Node, amount: np.ndarray) -> None:
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    name = f"{node.name}_corrected_bias"
    while name in model.graph.initializers:
        name += "_again"
    changed = amount if bias is None else bias + amount
    node.replace_input_with(2, add_initializer(model.graph, name, changed.astype(np.float32)))


def _expected_shifts(
    prepared: ir.Model,
    plan: QuantPlan,
    reference: ir.Model,
    names: Sequence[str],
    images: Images,
    on_progress: Progress | None,
) -> dict[str, np.ndarray]:
    """By node, float64 [out]: what weight errors make of the mean inputs of the float network."""
    graph = reference.clone()
    twins = {str(node.name): node for node in graph.graph if node.name in names}
    dimensions = {twin.inputs[0]: DIMENSIONS[twin.op_type] for twin in twins.values()}
    means = [mean_of_channels(graph, value, count) for value, count in dimensions.items() if value is not None]
    averages = average_over_images(graph, means, images, on_progress)
    expected = dict(zip(dimensions, averages, strict=True))
    shifts = {}
    for node in prepared.graph:
        if node.name not in twins:
            continue
        twin = twins[node.name]
        error = np.moveaxis(_quantized_weight(node, plan) - constant(twin.inputs[1]), output_axis(node), 0)
        parts = integer(node, "group", 1)
        taps = error.reshape(parts, len(error) // parts, error.shape[1], -1).sum(3)
        shifts[str(node.name)] = (taps @ expected[twin.inputs[0]].reshape(parts, -1, 1)).ravel()
    return shifts


def _quantized_weight(node: ir.Node, plan: QuantPlan) -> np.ndarray:
    weight, planned = constant(node.inputs[1]), plan.weights[str(node.name)]
    assert weight is not None
    codes = quantize_weight(weight, planned.array, planned.axis, limit=planned.limit)
    return codes * planned.array.astype(np.float64).reshape(
        [-1 if axis == planned.axis else 1 for axis in range(weight.ndim)]
    )


def _measured_shifts(
    prepared: ir.Model,
    plan: QuantPlan,
    reference: ir.Model,
    names: Sequence[str],
    images: Images,
    on_progress: Progress | None,
) -> dict[str, np.ndarray]:
    """By node, float64 [out]: mean difference between the int8 and the float network, those before put right."""
    check_images(reference, as_sliceable(images))
    sums, size = _sums_to_put_right(prepared, names), images_at_a_time(reference)
    graph = reference.clone()
    wanted = [_mean_to_put_right(graph, node, sums) for node in _named(graph, names)]
    # Copies, because an array of the runtime's would keep all of its session's memory.
    of_float = [[*map(np.copy, means)] for _, means in means_by_chunk(graph, wanted, images, size, on_progress)]
    quantized, shifts = apply_plan(prepared, plan), []
    for node in _named(quantized, names):
        (output,) = node.outputs
        readers = list(output.uses())
        mean = _mean_to_put_right(quantized, node, sums)
        target = ir.Value(name=f"float mean of {node.name}", shape=mean.shape, type=ir.TensorType(ir.DataType.FLOAT))
        quantized.graph.inputs.append(target)
        shifts.append(append(quantized, "Sub", [mean, target], f"error of {node.name}"))
        put_right = append(quantized, "Sub", [output, shifts[-1]], f"{node.name} put right")
        for reader, position in readers:
            reader.replace_input_with(position, put_right)
    given = ({f"float mean of {name}": mean for name, mean in zip(names, means, strict=True)} for means in of_float)
    averages = weighted(means_by_chunk(quantized, shifts, images, size, on_progress, given))
    return dict(zip(names, averages, strict=True))


def _named(model: ir.Model, names: Sequence[str]) -> list[ir.Node]:
    nodes = {str(node.name): node for node in model.graph}
    return [nodes[name] for name in names]


def _mean_to_put_right(model: ir.Model, node: ir.Node, sums: Mapping[str, tuple[str, int]]) -> ir.Value:
    """A new value: the mean of the node's output, or of the sum that it goes into, as its other part stands now."""
    dimensions = DIMENSIONS[node.op_type]
    mean = mean_of_channels(model, node.outputs[0], dimensions)
    if str(node.name) not in sums:
        return mean
    add, position = sums[str(node.name)]
    other = _named(model, [add])[0].inputs[position]
    assert other is not None
    beside = mean_of_channels(model, other, dimensions, name=f"mean beside {node.name}")
    return append(model, "Add", [mean, beside], f"mean of the sum of {node.name}")


def _sums_to_put_right(prepared: ir.Model, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """By node: the Add that alone reads its result, and the position of the other input, where that is computed before.

    Of two branches that end in such nodes, the one that is computed last makes up for both.
    """
    order = {node: number for number, node in enumerate(prepared.graph)}
    found = {}
    for node in prepared.graph:
        add = only_consumer(node.outputs[0]) if node.name in names else None
        if add is None or add.op_type != "Add" or add.inputs[0] is add.inputs[1]:
            continue
        position = 1 if add.inputs[0] is node.outputs[0] else 0
        other = add.inputs[position]
        producer = None if other is None else other.producer()
        same_shape = rank(other) == DIMENSIONS[node.op_type]
        if constant(other) is None and same_shape and (producer is None or order[producer] < order[node]):
            found[str(node.name)] = str(add.name), position
    return found
