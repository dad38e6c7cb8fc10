"""Write a quantization plan into the graph as QuantizeLinear and DequantizeLinear; makes no decisions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...models.onnx_graph import add_initializer, constant, drop_node
from .calibration.ranges import affine
from .passes.exact_pixels import quantize_inputs_as_pixels
from .passes.hold_float import hold_float
from .passes.stem_channels import pad_stem_channels
from .placing.placement import absorbing
from .placing.refusals import CLAMPS, ELEMENTWISE, ON_CODES, WITH_WEIGHTS, clip_bounds
from .placing.targets import TARGETS, Target
from .plan import Codes, QuantPlan
from .weights import quantize_bias, quantize_weight


def apply_plan(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """A quantized copy of the prepared model that the plan was made for.

    Every quantized value is written once by a QuantizeLinear and read through a DequantizeLinear per reader, the
    form from which runtimes fuse int8 kernels; data movement in `ON_CODES` and clamps read and write the codes
    themselves where the target wants them to. What a float operator computes, float operators read unrounded.
    """
    copy, target = model.clone(), TARGETS[plan.target]
    kinds = {node.name: node.kind for node in plan.nodes}
    for node in list(copy.graph):
        if kinds[str(node.name)] == "absorbed":
            _absorb(node)
    int8 = [node for node in copy.graph if kinds[str(node.name)] == "int8"]
    for node in int8:
        if node.op_type in WITH_WEIGHTS:
            _quantize_weights(copy, node, plan)
        elif node.op_type in ELEMENTWISE:
            _quantize_constants(copy, node, target)
    on_codes = {node for node in int8 if target.on_codes and node.op_type in (*ON_CODES, *CLAMPS)}
    in_float = {node for node in copy.graph if kinds.get(str(node.name)) == "float"}
    values = {str(value.name): value for value in _all_values(copy)}
    for name, codes in plan.codes.items():
        _quantize_value(copy, values[name], codes, on_codes, in_float, target)
    quantize_inputs_as_pixels(copy)
    for node in int8:  # in graph order: a set's order would change the file from run to run
        if node.op_type == "Pad" and node in on_codes:
            _pad_with_zero_point(copy, node, plan, target)
        elif node.op_type in CLAMPS and node in on_codes:
            _clamp_codes(copy, node, plan, target)
    pad_stem_channels(copy, target.stem_channels)
    hold_float(copy)
    ir.passes.common.RemoveUnusedNodesPass()(copy)
    copy.graph.sort()
    return copy


def _absorb(activation: ir.Node) -> None:
    producer = absorbing(activation)
    assert producer is not None
    (result,), (output,) = producer.outputs, activation.outputs
    name, was_output = output.name, output.is_graph_output()
    drop_node(activation, result)
    if not was_output:
        output.name = None
        result.name = name


def _quantize_weights(model: ir.Model, node: ir.Node, plan: QuantPlan) -> None:
    weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert weight is not None and node.inputs[0] is not None
    planned = plan.weights[str(node.name)]
    scales, axis = planned.array, planned.axis
    name = f"{node.outputs[0].name}_weight"
    codes = quantize_weight(weight, scales, axis, limit=planned.limit)
    node.replace_input_with(1, _dequantized(model, node, name, codes, scales, axis))
    if bias is not None:
        bias_scales = (np.float32(plan.codes[str(node.inputs[0].name)].scale) * scales).astype(np.float32)
        bias_name = f"{node.outputs[0].name}_bias"
        bias_codes = quantize_bias(bias, bias_scales)
        node.replace_input_with(
            2, _dequantized(model, node, bias_name, bias_codes, bias_scales, None if axis is None else 0)
        )


def _quantize_constants(model: ir.Model, node: ir.Node, target: Target) -> None:
    """A constant operand of Add or Mul becomes codes over its own range."""
    for position, value in enumerate(node.inputs):
        array = constant(value)
        if array is None:
            continue
        scale, zero_point = affine(float(array.min()), float(array.max()))
        codes = np.clip(np.round(array / scale) + zero_point, 0, 255) + target.lowest_code
        zero = np.array(zero_point + target.lowest_code, target.code_type)
        name = f"{node.outputs[0].name}_operand{position}"
        node.replace_input_with(
            position, _dequantized(model, node, name, codes.astype(target.code_type), np.float32(scale), None, zero)
        )


def _dequantized(
    model: ir.Model,
    reader: ir.Node,
    name: str,
    codes: np.ndarray,
    scales: np.ndarray | np.float32,
    axis: int | None,
    zero_point: np.ndarray | None = None,
) -> ir.Value:
    zeros = np.zeros(np.shape(scales), codes.dtype) if zero_point is None else zero_point
    inputs = [
        add_initializer(model.graph, f"{name}_codes", codes),
        add_initializer(model.graph, f"{name}_scale", np.asarray(scales)),
        add_initializer(model.graph, f"{name}_zero_point", zeros),
    ]
    attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
    node = ir.Node("", "DequantizeLinear", inputs, attributes, name=f"{name}_dequantize")
    node.outputs[0].name = name
    assert reader.graph is not None
    reader.graph.insert_before(reader, node)
    return node.outputs[0]


def _quantize_value(
    model: ir.Model, value: ir.Value, codes: Codes, on_codes: set[ir.Node], in_float: set[ir.Node], target: Target
) -> None:
    scale = add_initializer(model.graph, f"{value.name}_scale", np.array(codes.scale, np.float32))
    zero_point = add_initializer(model.graph, f"{value.name}_zero_point", np.array(codes.zero_point, target.code_type))
    name, producer = str(value.name), value.producer()
    unrounded = producer in in_float
    readers = [use for use in value.uses() if not (unrounded and use.node in in_float)]
    is_output = value.is_graph_output() and not unrounded
    if producer is not None and producer in on_codes:
        quantized = value
        quantized.name = f"{name}_quantized"
        quantized.type = ir.TensorType(ir.DataType.from_numpy(target.code_type))
    else:
        if is_output:
            value.name = f"{name}_float"
        quantize = ir.Node("", "QuantizeLinear", [value, scale, zero_point], name=f"{name}_quantize")
        quantized = quantize.outputs[0]
        quantized.name = f"{name}_quantized"
        if producer is None:
            model.graph.insert_before(model.graph[0], quantize)
        else:
            model.graph.insert_after(producer, quantize)
    for number, (reader, position) in enumerate(readers):
        if reader in on_codes:
            reader.replace_input_with(position, quantized)
        else:
            reader.replace_input_with(
                position, _dequantize(reader, f"{name}_dequantized_{number}", [quantized, scale, zero_point])
            )
    if is_output:
        node = ir.Node("", "DequantizeLinear", [quantized, scale, zero_point], name=f"{name}_dequantize")
        model.graph.append(node)
        node.outputs[0].name = name
        node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, value.shape
        model.graph.outputs[list(model.graph.outputs).index(value)] = node.outputs[0]


def _dequantize(reader: ir.Node, name: str, inputs: list[ir.Value]) -> ir.Value:
    node = ir.Node("", "DequantizeLinear", inputs, name=f"{name}_node")
    node.outputs[0].name = name
    assert reader.graph is not None
    reader.graph.insert_before(reader, node)
    return node.outputs[0]


def _pad_with_zero_point(model: ir.Model, node: ir.Node, plan: QuantPlan, target: Target) -> None:
    name = str(node.outputs[0].name).removesuffix("_quantized")
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    code = np.array(plan.codes[name].zero_point, target.code_type)
    node.replace_input_with(2, add_initializer(model.graph, f"{name}_pad_code", code))


def _clamp_codes(model: ir.Model, node: ir.Node, plan: QuantPlan, target: Target) -> None:
    """Turn a Relu, Clip or HardSigmoid that reads and writes codes into the Clip of them."""
    name = str(node.outputs[0].name).removesuffix("_quantized")
    codes = plan.codes[name]
    low, high = (0.0, 1.0) if node.op_type == "HardSigmoid" else clip_bounds(node) or (-np.inf, np.inf)
    limits = np.round(np.array([low, high]) / codes.scale) + codes.zero_point
    first, last = np.clip(limits, target.lowest_code, target.highest_code).astype(target.code_type)
    bounds = [
        add_initializer(model.graph, f"{name}_{end}_code", np.array(code))
        for end, code in (("lowest", first), ("highest", last))
    ]
    clamp = ir.Node("", "Clip", [node.inputs[0], *bounds], name=node.name)
    clamp.outputs[0].name, clamp.outputs[0].shape = node.outputs[0].name, node.outputs[0].shape
    clamp.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(target.code_type))
    assert node.graph is not None
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [clamp], [node.outputs[0]], [clamp.outputs[0]])


def _all_values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
