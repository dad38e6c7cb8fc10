"""The int8 network of a plan in float32 PyTorch, with weights that come from rounding modules where they learn.

Where QuantizedGraph trains all of a network, this one runs in parts, from any value to any other, and each weight
may be rounded in its own way. Biases stay float: their int32 grid is too fine to matter.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from ....models.onnx_graph import add_initializer
from ..calibration.affine import LEVELS, affine
from ..passes.shortcut_to_convolution import selects_channels
from ..placing.refusals import ELEMENTWISE, SAME_CODES
from ..placing.targets import TARGETS
from ..plan import QuantPlan
from ..repair.channel_scaling import unused_name
from ..value_codes import Codes
from ..weights import output_axis
from .adaround import FreeRounding, SoftRounding
from .fake_quantize import fake_quantize
from .torch_graph import TorchGraph

Rounding = SoftRounding | FreeRounding


def batch_size(prepared: ir.Model, wanted: int) -> int:
    """How many images to run at a time: `wanted`, unless the graph takes a fixed number."""
    shape = prepared.graph.inputs[0].shape
    fixed = shape[0] if shape else None
    return fixed if isinstance(fixed, int) else wanted


class Simulation(nn.Module):
    """Runs like TorchGraph; `roundings` and `biases` are by the name of the node, and learnable."""

    def __init__(self, prepared: ir.Model, plan: QuantPlan) -> None:
        super().__init__()
        self.plan, self._prepared = plan, prepared
        self.graph = TorchGraph(prepared).requires_grad_(False)
        self.roundings: dict[str, Rounding] = {}
        self.biases: dict[str, Tensor] = {}
        nodes = {str(node.name): node for node in prepared.graph}
        self.axes = {name: output_axis(nodes[name]) for name in plan.weights}
        self.learnable = [name for name in plan.weights if not selects_channels(nodes[name])]
        self._nearest: dict[str, Tensor] = {}
        self._inputs = {step.name: step.inputs for step in self.graph.steps}
        with torch.no_grad():
            for name in plan.weights:
                self._nearest[name] = FreeRounding(*self._grid(name))()
        self.lowest = TARGETS[plan.target].lowest_code
        moved = {step.outputs[0] for step in self.graph.steps if _keeps_codes(step.op, step.inputs, step.outputs, plan)}
        self.rounded = {name: code for name, code in plan.codes.items() if name not in moved}
        self._operands = {node.name for node in plan.nodes if node.kind == "int8" and node.op in ELEMENTWISE}
        self.graph.passed_over = frozenset(node.name for node in plan.nodes if node.kind == "absorbed")
        self.graph.on_value, self.graph.on_weight, self.graph.on_constant = self._value, self._weight, self._constant

    def learn(self, nodes: list[str], kind: type[SoftRounding] | type[FreeRounding]) -> None:
        """From now on these nodes take their weights from a rounding of that kind, and their biases from parameters."""
        for name in nodes:
            self.roundings[name] = kind(*self._grid(name))
            bias = self._bias(name)
            if bias is not None:
                self.biases[name] = nn.Parameter(bias.clone())

    def settle(self, nodes: list[str]) -> None:
        """Keep what these nodes have learned, hard rounded and within what the target can add up."""
        pair_max = TARGETS[self.plan.target].pair_max
        for name in nodes:
            rounding = self.roundings.pop(name)
            codes = rounding.codes()
            if pair_max is not None:
                codes = within_pairs(codes, self.axes[name], pair_max)
            self._nearest[name] = codes * rounding.scales
            if name in self.biases:
                self.biases[name] = self.biases[name].detach()

    def to_ir(self) -> ir.Model:
        """The prepared graph with what has been settled; weights lie on the grid of the plan."""
        written = self._prepared.clone()
        for node in written.graph:
            name = str(node.name)
            if name in self._nearest and name in self.learnable:
                learned = self._nearest[name].numpy().copy()
                node.replace_input_with(1, _new(written, f"{name}_rounded_weight", learned))
                if name in self.biases:
                    bias = self.biases[name].detach().numpy().copy()
                    node.replace_input_with(2, _new(written, f"{name}_learned_bias", bias))
        ir.passes.common.RemoveUnusedNodesPass()(written)
        return written

    def _grid(self, name: str) -> tuple[Tensor, Tensor, int]:
        weight, planned = self.graph.constant(str(self._inputs[name][1])), self.plan.weights[name]
        assert weight is not None
        shape = [-1 if axis == planned.axis else 1 for axis in range(weight.ndim)]
        return weight.detach(), torch.from_numpy(planned.array).reshape(shape), planned.limit

    def _bias(self, name: str) -> Tensor | None:
        bias = (*self._inputs[name], None)[2]
        return None if bias is None else self.graph.constant(bias)

    def _value(self, name: str, x: Tensor) -> Tensor:
        return self.quantize(self.rounded[name], x) if name in self.rounded else x

    def quantize(self, code: Codes, x: Tensor) -> Tensor:
        low = self.lowest - code.zero_point
        return fake_quantize(x, torch.tensor(code.scale), low, low + LEVELS - 1)

    def _weight(self, node: str, weight: Tensor) -> Tensor:
        if node in self.roundings:
            learned: Tensor = self.roundings[node]()
            return learned
        return self._nearest.get(node, weight)

    def _constant(self, node: str, position: int, tensor: Tensor) -> Tensor:
        if node in self._operands:
            step, zero_point = affine(float(tensor.min()), float(tensor.max()))
            return fake_quantize(tensor, torch.tensor(step), -zero_point, LEVELS - 1 - zero_point)
        return self.biases.get(node, tensor) if position == 2 else tensor


def _new(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    return add_initializer(model.graph, unused_name(model.graph, name), array)


def _keeps_codes(op: str, inputs: tuple[str | None, ...], outputs: tuple[str, ...], plan: QuantPlan) -> bool:
    """Whether a step moves codes about, so that there is nothing to round."""
    data = inputs if op == "Concat" else inputs[:1]
    codes = [plan.codes.get(str(name)) for name in (*data, outputs[0])]
    return op in SAME_CODES and codes[0] is not None and all(code == codes[0] for code in codes)


def within_pairs(codes: Tensor, axis: int, pair_max: int) -> Tensor:
    """Codes cut so that no two of one sign and channel along `axis` exceed `pair_max` in sum (saturation.py)."""
    rows = codes.movedim(axis, 0)
    flat = rows.reshape(len(rows), -1)
    for sign in (1.0, -1.0):
        padded = torch.cat([flat * sign, flat.new_zeros(len(flat), 1)], 1).clamp(min=0.0)
        second = padded.topk(2, dim=1).values[:, 1:]
        most = (pair_max - second).clamp(min=pair_max // 2)
        flat = torch.where(flat * sign > most, sign * most, flat)
    return flat.reshape(rows.shape).movedim(0, axis)
