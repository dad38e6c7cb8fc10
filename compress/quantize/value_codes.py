"""From ranges of values to their codes, with what operators and targets demand of them.

Most values get codes spread evenly over their range. Three rules go before that:

- A target may fix the codes of a result (`Target.fixed_codes`), as LiteRT does for Sigmoid.
- HardSigmoid on codes is a clamp: alpha x + beta is what the codes of x mean under another scale and zero point,
  so the result has those, and the codes of x must reach down to -beta / alpha and hit it exactly. Where x stays so
  far above that its codes would become much coarser, they are left alone and HardSigmoid is computed in float.
- Pixels are codes already (exact_pixels.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ...models.onnx_graph import real
from .calibration.ranges import LEVELS, Range, affine
from .passes.exact_pixels import CENTER, PIXELS
from .placing.placement import NodePlan, Placement
from .placing.targets import Target

COARSER = 1.25
"""A quarter of a bit less for a value, against the time of a HardSigmoid in float."""
TOO_NARROW = "its input stays so close to 0 that codes reaching down to its lower bound would be too coarse"


@dataclass(frozen=True)
class Codes:
    """How a float value is written in the target's activation type: value = scale * (code - zero_point)."""

    scale: float
    zero_point: int


def choose_codes(
    prepared: ir.Model, placement: Placement, ranges: Mapping[str, Range], target: Target
) -> dict[str, Codes]:
    """Codes of every quantized value, by name, in graph order; tied values share the union of their ranges."""
    int8 = {node.name for node in placement.nodes if node.kind == "int8"}
    nodes = [node for node in prepared.graph if str(node.name) in int8]
    made_by = {str(node.outputs[0].name): node for node in nodes}
    gated = {str(node.inputs[0].name): node for node in nodes if node.op_type == "HardSigmoid"}  # type: ignore[union-attr]
    codes: dict[str, Codes] = {}
    for group in placement.tied:
        makers = [made_by[name] for name in group if name in made_by]
        clamps = [node for node in makers if node.op_type == "HardSigmoid"]
        fixed = [target.fixed_codes[node.op_type] for node in makers if node.op_type in target.fixed_codes]
        if PIXELS in group:
            chosen = Codes(1.0, int(prepared.metadata_props[CENTER]) + target.lowest_code)
        elif fixed:
            chosen = Codes(*fixed[0])
        elif clamps and clamps_codes(clamps[0], codes, target):
            chosen = reinterpreted(clamps[0], codes)
        else:
            known = [ranges[name] for name in group if name not in placement.moved]
            low, high = min(low for low, _ in known), max(high for _, high in known)
            scale, zero_point = affine(low, high)
            for name in group:
                if name in gated:
                    scale, zero_point = hitting(low, high, zero_of(gated[name]))
            chosen = Codes(scale, zero_point + target.lowest_code)
        codes.update(dict.fromkeys(group, chosen))
    return codes


def placed_by_codes(
    prepared: ir.Model, nodes: tuple[NodePlan, ...], codes: Mapping[str, Codes], target: Target
) -> tuple[NodePlan, ...]:
    """`nodes` with those HardSigmoids in float that cannot clamp the codes they read."""
    unfit = {
        str(node.name)
        for node, planned in zip(prepared.graph, nodes, strict=True)
        if node.op_type == "HardSigmoid" and planned.kind == "int8" and not clamps_codes(node, codes, target)
    }
    return tuple(replace(node, kind="float", reason=TOO_NARROW) if node.name in unfit else node for node in nodes)


def zero_of(hard_sigmoid: ir.Node) -> float:
    """The input at which HardSigmoid leaves 0."""
    return -real(hard_sigmoid, "beta", 0.5) / real(hard_sigmoid, "alpha", 0.2)


def clamps_codes(hard_sigmoid: ir.Node, codes: Mapping[str, Codes], target: Target) -> bool:
    """Whether the codes that HardSigmoid reads reach down to where it leaves 0."""
    return reinterpreted(hard_sigmoid, codes).zero_point >= target.lowest_code


def reinterpreted(hard_sigmoid: ir.Node, codes: Mapping[str, Codes]) -> Codes:
    """What the codes of HardSigmoid's input mean as its result: alpha x + beta."""
    assert hard_sigmoid.inputs[0] is not None
    source = codes[str(hard_sigmoid.inputs[0].name)]
    scale = float(np.float32(source.scale * real(hard_sigmoid, "alpha", 0.2)))
    return Codes(scale, source.zero_point + round(zero_of(hard_sigmoid) / source.scale))


def hitting(low: float, high: float, point: float) -> tuple[float, int]:
    """(scale, zero point) of uint8 codes over [low, high], one of which is exactly the negative `point` where that
    makes them at most `COARSER` times as wide."""
    plain, wide = affine(low, high), affine(min(low, point), high)
    steps = int(-point / wide[0])
    if steps == 0:
        return plain
    scale = float(np.float32(-point / steps))
    if scale > COARSER * plain[0]:
        return plain
    return scale, int(np.clip(round(-min(low, point) / scale), steps, LEVELS - 1))
