"""Layers whose 16-bit sums can overflow on a processor without VNNI, by the worst cases of pair_sums.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import constant
from ..pair_sums import worst_pair_sums
from ..plan import QuantPlan
from ..weights import output_axis, quantize_weight

INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class LayerSaturation:
    node: str
    op: str
    channels: int
    saturating: int
    """Output channels in which a pair of products can leave int16."""
    worst: int
    """The pair sum furthest from zero; int16 holds -32,768 to 32,767."""


def saturation_report(prepared: ir.Model, plan: QuantPlan) -> tuple[LayerSaturation, ...]:
    """The worst pair sums of every operator with int8 weights, in graph order."""
    layers = []
    for node in prepared.graph:
        if str(node.name) not in plan.weights:
            continue
        weight, planned = constant(node.inputs[1]), plan.weights[str(node.name)]
        assert weight is not None
        codes = quantize_weight(weight, planned.array, planned.axis, limit=planned.limit)
        sums = worst_pair_sums(codes, output_axis(node))
        saturating = (sums < INT16.min) | (sums > INT16.max)
        worst = int(sums.ravel()[np.abs(sums).argmax()])
        layers.append(LayerSaturation(str(node.name), node.op_type, len(sums), int(saturating.any(1).sum()), worst))
    return tuple(layers)
