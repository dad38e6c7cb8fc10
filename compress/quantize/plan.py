"""What quantization will do to a model: printable, comparable, made before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .calibrate import Histogram
from .placement import NodePlan, Placement
from .ranges import METHODS, Method, affine


@dataclass(frozen=True)
class Codes:
    """How a float value is written in uint8: value = scale * (code - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantPlan:
    target: str
    method: Method
    per_channel: bool
    nodes: tuple[NodePlan, ...]
    codes: dict[str, Codes]
    """By the name of the float value, in graph order."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def plan_from(
    placement: Placement,
    statistics: Mapping[str, Histogram],
    *,
    target: str,
    method: Method,
    per_channel: bool,
) -> QuantPlan:
    """Choose a range for every group of tied values: the union of what `method` chooses for each of them."""
    codes: dict[str, Codes] = {}
    for group in placement.tied:
        ranges = [METHODS[method](statistics[name]) for name in group]
        scale, zero_point = affine(min(low for low, _ in ranges), max(high for _, high in ranges))
        codes.update({name: Codes(scale, zero_point) for name in group})
    return QuantPlan(target, method, per_channel, placement.nodes, codes)
