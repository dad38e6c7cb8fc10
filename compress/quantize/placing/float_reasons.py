"""Why a convolution or matrix product of a quantized file runs in float, read off the file itself.

Runtimes make an int8 kernel of DequantizeLinear -> operator -> QuantizeLinear. Whatever breaks that pattern leaves
the operator in float, and this names it.
"""

from __future__ import annotations

import onnx

KERNEL_TYPES = ("uint8", "int8")


class Wiring:
    """Who computes and who reads each value of a graph, and which values it stores."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.producers = {output: node for node in graph.node for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.stored[node.output[0]] = node.attribute[0].t

    def is_float(self, name: str) -> bool:
        """Whether the value is stored, and as float32."""
        return name in self.stored and self.stored[name].data_type == onnx.TensorProto.FLOAT

    def codes_type(self, dequantize: onnx.NodeProto) -> str:
        """Element type of the codes that a DequantizeLinear reads or a QuantizeLinear writes, by its zero point, else
        by the codes where they are stored, else uint8."""
        zero = self.stored.get(dequantize.input[2]) if len(dequantize.input) > 2 else None
        tensor = zero if zero is not None else self.stored.get(dequantize.input[0])
        return "uint8" if tensor is None else onnx.TensorProto.DataType.Name(tensor.data_type).lower()


def why_float(node: onnx.NodeProto, wiring: Wiring) -> str:
    """One clause for a Conv, ConvTranspose, Gemm or MatMul that the runtime did not turn into an int8 kernel; empty
    where everything around it is as int8 kernels want it."""
    if node.op_type == "ConvTranspose":
        return "the runtime has no int8 kernel for transposed convolutions"
    operands = {
        what: (name, wiring.producers.get(name))
        for what, name in zip(("input", "weights", "bias"), node.input, strict=False)
        if name
    }
    for what in ("weights", "input", "bias"):  # what is decided first by the tool that wrote the file is named first
        if what in operands and (reason := _why_operand_float(what, *operands[what], wiring)):
            return reason
    return _why_output_float(node, wiring)


def _why_operand_float(what: str, name: str, source: onnx.NodeProto | None, wiring: Wiring) -> str:
    if source is not None and source.op_type == "DequantizeLinear":
        kind = wiring.codes_type(source)
        if what == "bias":
            return "" if kind == "int32" else f"its bias is {kind} instead of int32"
        verb = "are" if what == "weights" else "is"
        return "" if kind in KERNEL_TYPES else f"its {what} {verb} {kind}, for which the runtime has no kernel"
    if what == "weights":
        return "its weights are stored as float" if name in wiring.stored else "its weights are computed at run time"
    if what == "bias":
        return "its bias is stored as float, and the runtime fuses int32 ones only"
    return f"its input comes in float from {_called(source)}"


def _why_output_float(node: onnx.NodeProto, wiring: Wiring) -> str:
    result = node.output[0]
    readers = wiring.readers.get(result, [])
    if node.op_type in ("Gemm", "MatMul") and all(reader.op_type != "QuantizeLinear" for reader in readers):
        return ""  # a matrix product may hand on its sums in float
    if result in wiring.outputs:
        return "its result is an output of the model in float"
    floats = [reader for reader in readers if reader.op_type != "QuantizeLinear"]
    if not floats:
        return ""
    if len(floats) == len(readers) == 1 and floats[0].op_type in ("Relu", "Clip"):
        after = wiring.readers.get(floats[0].output[0], [])
        if after and all(reader.op_type == "QuantizeLinear" for reader in after):
            return f"{_called(floats[0])} follows it and its bounds are not those of the codes, so neither fuses"
        return _why_output_float(floats[0], wiring)
    beside = "also " if len(floats) < len(readers) else ""
    return f"its result is {beside}read in float by {_called(floats[0])}"


def mixed_types(node: onnx.NodeProto, optimised: Wiring) -> str:
    """A clause for an operator of the runtime's graph whose input and result are codes of different types."""
    source = optimised.producers.get(node.input[0])
    results = [reader for reader in optimised.readers.get(node.output[0], []) if reader.op_type == "QuantizeLinear"]
    if source is None or source.op_type != "DequantizeLinear" or not results:
        return ""
    before, after = optimised.codes_type(source), optimised.codes_type(results[0])
    if before == after:
        return ""
    return f"the runtime rewrote some int8 codes to uint8, and has no kernel from {before} to {after}"


def _called(node: onnx.NodeProto | None) -> str:
    return "the model's input" if node is None else f"{node.op_type} {node.name or node.output[0]}"
