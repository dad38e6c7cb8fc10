"""What quantization will do to a model: printable, comparable, made before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir

from ... import errors
from ...models.onnx_graph import constant
from .calibration.calibrate import Histogram
from .calibration.ranges import METHODS, Method
from .pair_sums import pair_scales
from .passes.exact_pixels import PIXELS
from .placing.placement import WITH_WEIGHTS, NodePlan, Placement
from .placing.targets import TARGETS
from .value_codes import Codes, choose_codes, placed_by_codes
from .weights import output_axis, weight_scales

FEWEST_BITS, MOST_BITS = 2, 8


@dataclass(frozen=True)
class WeightCodes:
    """How weights are written in int8: weight = scale * code, -limit <= code <= limit."""

    scales: tuple[float, ...]
    """One per output channel, or a single one."""
    axis: int | None
    """Axis of the weights that counts output channels; None where one scale serves them all."""
    limit: int

    @property
    def array(self) -> np.ndarray:
        """float32 scales, [channels] or a scalar array."""
        return np.array(self.scales[0] if self.axis is None else self.scales, np.float32)


@dataclass(frozen=True)
class QuantPlan:
    target: str
    method: Method
    per_channel: bool
    nodes: tuple[NodePlan, ...]
    codes: dict[str, Codes]
    """By the name of the float value, in graph order."""
    weights: dict[str, WeightCodes]
    """By the name of the node that the weights belong to, in graph order."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def plan_from(
    prepared: ir.Model,
    placement: Placement,
    statistics: Mapping[str, Histogram],
    *,
    target: str,
    method: Method,
    per_channel: bool,
    weight_bits: Mapping[str, int] | None = None,
) -> QuantPlan:
    """Choose the codes of all values and weights.

    Tied values share the union of the ranges that `method` chooses for each of them. `weight_bits` gives nodes
    fewer levels than the eight bits that their weights are stored in.
    Raises EdgeLatheError for bits that are out of range and for nodes without int8 weights.
    """
    chosen = {name: METHODS[method](statistics[name]) for name in placement.measured if name != PIXELS}
    codes = choose_codes(prepared, placement, chosen, TARGETS[target])
    nodes = placed_by_codes(prepared, placement.nodes, codes, TARGETS[target])
    int8 = {node.name for node in placement.nodes if node.kind == "int8"}
    weighted = [node for node in prepared.graph if node.name in int8 and node.op_type in WITH_WEIGHTS]
    limits = _limits([str(node.name) for node in weighted], TARGETS[target].weight_max, weight_bits or {})
    weights = {
        str(node.name): weight_codes(node, codes, limits[str(node.name)], per_channel, TARGETS[target].pair_max)
        for node in weighted
    }
    return QuantPlan(target, method, per_channel, nodes, codes, weights)


def weight_codes(
    node: ir.Node, codes: Mapping[str, Codes], limit: int, per_channel: bool, pair_max: int | None = None
) -> WeightCodes:
    """Scales that spread the weights of `node` over -limit..limit and leave room for its bias.

    `pair_max` bounds the sum of two codes of one sign in an output channel, for processors whose sums saturate.
    """
    weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert weight is not None and node.inputs[0] is not None
    axis = output_axis(node) if per_channel else None
    input_scale = codes[str(node.inputs[0].name)].scale
    scales = weight_scales(weight, axis, limit=limit, bias=bias, input_scale=input_scale)
    if pair_max is not None:
        scales = pair_scales(weight, scales, output_axis(node), limit=limit, pair_max=pair_max)
    return WeightCodes(tuple(float(scale) for scale in scales.ravel()), axis, limit)


def _limits(nodes: list[str], full: int, weight_bits: Mapping[str, int]) -> dict[str, int]:
    unknown = [name for name in weight_bits if name not in nodes]
    if unknown:
        raise errors.quantize.unknown_nodes(unknown, nodes)
    for name, bits in weight_bits.items():
        if not FEWEST_BITS <= bits <= MOST_BITS:
            raise errors.inputs.impossible_setting(
                f"weight_bits of {name}", bits, f"between {FEWEST_BITS} and {MOST_BITS} bits"
            )
    return {name: min(full, 2 ** (weight_bits.get(name, MOST_BITS) - 1) - 1) for name in nodes}
