"""Write a quantization plan into the graph as QuantizeLinear and DequantizeLinear; makes no decisions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...models.onnx_graph import add_initializer, constant, drop_node
from .exact_pixels import quantize_inputs_as_pixels
from .placement import ELEMENTWISE, ON_CODES, WITH_WEIGHTS, absorbing
from .plan import Codes, QuantPlan
from .ranges import affine
from .weights import quantize_bias, quantize_weight


def apply_plan(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """A quantized copy of the prepared model that the plan was made for.

    Every quantized value is written once by a QuantizeLinear and read through a DequantizeLinear per reader, the
    form from which runtimes fuse int8 kernels; data movement in `ON_CODES` reads and writes the codes themselves.
    """
    copy = model.clone()
    kinds = {node.name: node.kind for node in plan.nodes}
    for node in list(copy.graph):
        if kinds[str(node.name)] == "absorbed":
            _absorb(node)
    int8 = [node for node in copy.graph if kinds[str(node.name)] == "int8"]
    for node in int8:
        if node.op_type in WITH_WEIGHTS:
            _quantize_weights(copy, node, plan)
        elif node.op_type in ELEMENTWISE:
            _quantize_constants(copy, node)
    on_codes = {node for node in int8 if node.op_type in ON_CODES}
    values = {str(value.name): value for value in _all_values(copy)}
    for name, codes in plan.codes.items():
        _quantize_value(copy, values[name], codes, on_codes)
    quantize_inputs_as_pixels(copy)
    for node in int8:  # in graph order: a set's order would change the file from run to run
        if node.op_type == "Pad":
            _pad_with_zero_point(copy, node, plan)
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


def _quantize_constants(model: ir.Model, node: ir.Node) -> None:
    """A constant operand of Add or Mul becomes uint8 codes over its own range."""
    for position, value in enumerate(node.inputs):
        array = constant(value)
        if array is None:
            continue
        scale, zero_point = affine(float(array.min()), float(array.max()))
        codes = np.clip(np.round(array / scale) + zero_point, 0, 255).astype(np.uint8)
        name = f"{node.outputs[0].name}_operand{position}"
        node.replace_input_with(
            position, _dequantized(model, node, name, codes, np.float32(scale), None, np.uint8(zero_point))
        )


def _dequantized(
    model: ir.Model,
    reader: ir.Node,
    name: str,
    codes: np.ndarray,
    scales: np.ndarray | np.float32,
    axis: int | None,
    zero_point: np.uint8 | None = None,
) -> ir.Value:
    zeros = np.zeros(np.shape(scales), codes.dtype) if zero_point is None else np.asarray(zero_point)
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


def _quantize_value(model: ir.Model, value: ir.Value, codes: Codes, on_codes: set[ir.Node]) -> None:
    scale = add_initializer(model.graph, f"{value.name}_scale", np.array(codes.scale, np.float32))
    zero_point = add_initializer(model.graph, f"{value.name}_zero_point", np.array(codes.zero_point, np.uint8))
    readers = list(value.uses())
    name = str(value.name)
    is_output = value.is_graph_output()
    producer = value.producer()
    if producer is not None and producer in on_codes:
        quantized = value
        quantized.name = f"{name}_quantized"
        quantized.dtype = ir.DataType.UINT8
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


def _pad_with_zero_point(model: ir.Model, node: ir.Node, plan: QuantPlan) -> None:
    name = str(node.outputs[0].name).removesuffix("_quantized")
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    code = np.array(plan.codes[name].zero_point, np.uint8)
    node.replace_input_with(2, add_initializer(model.graph, f"{name}_pad_code", code))


def _all_values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
