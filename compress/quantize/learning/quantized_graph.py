"""The network that `apply_plan` writes, in float32 and with gradients: fake quantization at exactly the plan's points.

    values    rounded where `plan.codes` names them; tied values share one scale
    weights   rounded to one scale per output channel: that of the largest weight, or a learned step
    biases    rounded to the int32 grid of input scale times weight scale
    ReLUs     that the plan absorbs do not run: the range of the operator before them ends where they would clip

So what is trained is what is exported: `to_ir` and `plan` give `apply_plan` weights that already lie on the grid.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from ....models.onnx_graph import add_initializer
from ..calibration.affine import LEVELS, affine
from ..passes.exact_pixels import PIXELS
from ..passes.shortcut_to_convolution import selects_channels
from ..placing.placement import Placement
from ..placing.refusals import ELEMENTWISE, SAME_CODES, clip_bounds
from ..placing.targets import TARGETS
from ..plan import QuantPlan, WeightCodes
from ..weights import BIAS_LIMIT, output_axis
from .fake_quantize import fake_quantize, straight_through
from .held_values import held_values
from .int8_gradients import Gradients, Int8Gradients
from .torch_graph import Step, TorchGraph
from .value_ranges import LEAST_STEP, RANGES, Bounds, Ranges

PIXEL_GAIN = 64.0
"""Weights that read pixels instead of normalised inputs are so much smaller than others, and would take steps so much
larger. They are kept this many times as large as they act; a power of two, so that nothing is rounded."""

PAIR_MARGIN = 1e-6
"""More than float32 loses in dividing weights by their scale, so that no pair of codes exceeds its bound."""


class QuantizedGraph(nn.Module):
    """Images float32 [N, C, H, W] -> logits, as the int8 file of `plan` computes them.

    `ranges` says how scales move in training: "lsq" learns those of values and weights by gradient, "ema" averages
    the extrema of values and takes the largest weights. In eval mode they stand still. `gradients` = "int8" is an
    experiment, see int8_gradients.py; `seed` is for its draws.
    """

    def __init__(
        self,
        prepared: ir.Model,
        placement: Placement,
        plan: QuantPlan,
        *,
        ranges: Ranges = "lsq",
        gradients: Gradients = "float",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._plan, self._learns_steps = plan, ranges == "lsq"
        self.graph = TorchGraph(prepared)
        self._groups = {name: number for number, names in enumerate(placement.tied) for name in names}
        self._target = TARGETS[plan.target]
        held = held_values(prepared, self._target)
        self.values = RANGES[ranges](
            [plan.codes[names[0]] for names in placement.tied],
            [not held.isdisjoint(names) for names in placement.tied],
            self._target,
        )
        self._bounds = _bounds(prepared, {node.name for node in plan.nodes if node.kind == "absorbed"})
        self._moved = {step.outputs[0] for step in self.graph.steps if self._keeps_codes(step)}
        self._operands = {node.name for node in plan.nodes if node.kind == "int8" and node.op in ELEMENTWISE}
        self._axes = {str(node.name): output_axis(node) for node in prepared.graph if str(node.name) in plan.weights}
        self._weighted = {step.name: step for step in self.graph.steps if step.name in plan.weights}
        layers = {step.outputs[0]: name for name, step in self._weighted.items()}
        self.gradients = Int8Gradients(layers, seed=seed) if gradients == "int8" else None
        pixels = {group for group, names in enumerate(placement.tied) if PIXELS in names}
        self._gains = {name: PIXEL_GAIN for name in plan.weights if self._input_group(name) in pixels}
        self._bias_scales: dict[str, Tensor] = {}
        self.weight_steps = nn.ParameterList(
            nn.Parameter(torch.from_numpy(codes.array).reshape(-1))
            for codes in (plan.weights.values() if self._learns_steps else ())
        )
        self._steps = dict(zip(plan.weights, self.weight_steps, strict=False))
        self._settle_weights(prepared)
        self.graph.passed_over = frozenset(node.name for node in plan.nodes if node.kind == "absorbed")
        self.graph.on_value, self.graph.on_weight, self.graph.on_constant = self._value, self._weight, self._constant

    def _settle_weights(self, prepared: ir.Model) -> None:
        with torch.no_grad():
            for name, gain in self._gains.items():
                self._stored(name).mul_(gain)
                if self._learns_steps:
                    self._steps[name].mul_(gain)
        for node in prepared.graph:
            if node.name in self._weighted and selects_channels(node):
                self._stored(node.name).requires_grad_(False)  # a shortcut copies, and is to go on copying
                if self._learns_steps:
                    self._steps[node.name].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.graph(x)
        if self.training:
            self.values.step()
        if self.training and self.gradients is not None:
            self.gradients.step()
        return logits

    def zeros_of(self, nodes: Collection[str]) -> dict[str, Tensor]:
        """Where the weights of `nodes` are not zero, bool by parameter name; a weight without zeros is left out."""
        masks = {}
        for name, parameter in self.named_parameters():
            read = [node for node in self._weighted if self._stored(node) is parameter]
            if not set(read).isdisjoint(nodes) and bool((parameter == 0).any()):
                masks[name] = parameter.detach() != 0
        return masks

    def plan(self) -> QuantPlan:
        """The plan with the codes and weight scales that training came to."""
        groups = self.values.codes()
        codes = {name: groups[self._groups[name]] for name in self._plan.codes}
        weights = {}
        with torch.no_grad():
            for name, planned in self._plan.weights.items():
                scales = self._scales(name, self._acting(name)).reshape(-1).tolist()
                weights[name] = WeightCodes(tuple(scales), planned.axis, planned.limit)
        return replace(self._plan, codes=codes, weights=weights)

    def to_ir(self) -> ir.Model:
        """The float graph with the trained biases, and with weights that lie on the grid of `plan`."""
        written = self.graph.to_ir()
        for node in written.graph:
            if str(node.name) in self._plan.weights:
                with torch.no_grad():
                    weight = self._rounded(str(node.name), self._acting(str(node.name)))
                array = weight.contiguous().numpy().copy()
                # A weight that two nodes share would have to lie on two grids, so each node gets its own.
                node.replace_input_with(1, add_initializer(written.graph, f"{node.name}_trained_weight", array))
        ir.passes.common.RemoveUnusedNodesPass()(written)
        return written

    # --- hooks -----------------------------------------------------------------------------------------------

    def _value(self, name: str, x: Tensor) -> Tensor:
        if self.gradients is not None and self.training:
            x = self.gradients.at_output(name, x)
        group = self._groups.get(name)
        if group is None or name in self._moved:
            return x
        if self.training:
            self.values.observe(group, x, self._bounds.get(name, (-np.inf, np.inf)))
        return self.values.quantize(group, x)

    def _weight(self, node: str, weight: Tensor) -> Tensor:
        if node not in self._plan.weights:
            return weight
        if self.gradients is not None and self.training:
            weight = self.gradients.at_weight(node, weight)
        return self._rounded(node, weight / self._gains.get(node, 1.0))

    def _constant(self, node: str, position: int, tensor: Tensor) -> Tensor:
        if node in self._plan.weights and position == 2:
            if self.gradients is not None and self.training:
                tensor = self.gradients.at_weight(node, tensor)
            scale = self._bias_scales[node]
            return straight_through(tensor, torch.round(tensor / scale) * scale)
        if node in self._operands:
            step, zero_point = affine(float(tensor.min()), float(tensor.max()))
            return fake_quantize(tensor, torch.tensor(step), -zero_point, LEVELS - 1 - zero_point)
        return tensor

    # --- weights ---------------------------------------------------------------------------------------------

    def _acting(self, node: str) -> Tensor:
        """The weight as the node reads it, before rounding."""
        return self._stored(node) / self._gains.get(node, 1.0)

    def _stored(self, node: str) -> Tensor:
        weight = self.graph.constant(str(self._weighted[node].inputs[1]))
        assert weight is not None
        return weight

    def _rounded(self, node: str, weight: Tensor) -> Tensor:
        scales = self._scales(node, weight)
        self._bias_scales[node] = (self._input_scale(node) * scales).detach().reshape(-1)
        limit = self._plan.weights[node].limit
        return fake_quantize(weight, scales, -limit, limit, step_gradient=self._step_gradient(node, weight))

    def _scales(self, node: str, weight: Tensor) -> Tensor:
        """Scales that broadcast against the weight; wide enough for the bias to fit, see weights.weight_scales."""
        planned = self._plan.weights[node]
        if self._learns_steps:
            least = torch.tensor(planned.scales) * LEAST_STEP
            learned = self._steps[node] / self._gains.get(node, 1.0)
            scales = torch.maximum(learned, least).reshape(self._shape(node, weight))
        else:
            others = [axis for axis in range(weight.ndim) if axis != planned.axis]
            scales = weight.detach().abs().amax(dim=others, keepdim=True) / planned.limit
        if self._target.pair_max is not None:
            pairs = _pairs(weight.detach(), self._axes[node])
            needed = pairs * (1 + PAIR_MARGIN) / self._target.pair_max
            scales = torch.maximum(
                scales, needed.reshape(self._shape(node, weight)) if planned.axis is not None else needed.max()
            )
        bias = self._bias(node)
        if bias is not None:
            sizes = bias.detach().abs() if planned.axis is not None else bias.detach().abs().max()
            room = sizes / (BIAS_LIMIT * self._input_scale(node))
            scales = torch.maximum(scales, room.reshape(self._shape(node, weight)))
        return torch.where(scales < torch.finfo(torch.float32).tiny, 1.0, scales)

    def _bias(self, node: str) -> Tensor | None:
        name = (*self._weighted[node].inputs, None)[2]
        return None if name is None else self.graph.constant(name)

    def _shape(self, node: str, weight: Tensor) -> list[int]:
        axis = self._plan.weights[node].axis
        return [-1 if i == axis else 1 for i in range(weight.ndim)]

    def _step_gradient(self, node: str, weight: Tensor) -> float:
        planned = self._plan.weights[node]
        return float((weight.numel() / len(planned.scales) * planned.limit) ** -0.5)

    def _input_scale(self, node: str) -> float:
        return self.values.scale(self._input_group(node))

    def _input_group(self, node: str) -> int:
        return self._groups[str(self._weighted[node].inputs[0])]

    def _keeps_codes(self, step: Step) -> bool:
        """Whether a step moves codes of one group about, so that there is nothing to round."""
        data = step.inputs if step.op == "Concat" else step.inputs[:1]
        groups = {self._groups.get(str(name)) for name in (*data, step.outputs[0])}
        return step.op in SAME_CODES and len(groups) == 1 and None not in groups


def _pairs(weight: Tensor, axis: int) -> Tensor:
    """[channels]: size of the largest sum of two weights of one sign of each channel; see saturation.py."""
    rows = torch.cat(
        [weight.movedim(axis, 0).reshape(weight.shape[axis], -1), weight.new_zeros(weight.shape[axis], 1)], 1
    )
    return torch.stack([(rows * sign).clamp(min=0.0).topk(2, dim=1).values.sum(1) for sign in (1.0, -1.0)]).amax(0)


def _bounds(prepared: ir.Model, absorbed: set[str]) -> dict[str, Bounds]:
    """What the range of each value that an absorbed activation computes must not exceed."""
    found = {str(node.outputs[0].name): clip_bounds(node) for node in prepared.graph if node.name in absorbed}
    return {name: bounds for name, bounds in found.items() if bounds is not None}
