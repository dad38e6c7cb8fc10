"""From a float ONNX file to the first plan for it, and from a finished plan to the int8 file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ... import errors
from ...files import sha256_file, write_atomic
from .apply import apply_plan
from .audit import Audit, audit
from .calibrate import Images, calibrate
from .exact_pixels import PIXELS, exact_pixels
from .placement import Placement, int8_nodes, place
from .plan import QuantPlan, plan_from
from .prepare import prepare
from .ranges import METHODS, Method
from .stem_to_depth import stem_to_depth
from .targets import TARGETS

Pixels = tuple[Sequence[float], Sequence[float]]
"""(mean, std) per channel that pixels / 255 are normalised by."""


@dataclass(frozen=True)
class Planned:
    prepared: ir.Model
    placement: Placement
    plan: QuantPlan


def plan_file(
    model: Path | str,
    images: Images,
    *,
    target: str,
    method: Method,
    per_channel: bool,
    keep_float: Sequence[str],
    pixels: Pixels | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Planned:
    """Prepare, place, calibrate and plan, with the keywords of `quantize`, which raises the same."""
    if target not in TARGETS:
        raise errors.unknown_choice("target", target, TARGETS)
    if method not in METHODS:
        raise errors.unknown_choice("calibration method", method, METHODS)
    prepared = prepare(model)
    placement = place(prepared, keep_float=keep_float, target=target)
    through_pixels = None if pixels is None else exact_pixels(prepared, *pixels)
    if through_pixels is not None:
        stem_to_depth(through_pixels, PIXELS)
        placed = place(through_pixels, keep_float=keep_float, target=target)
        if PIXELS in placed.values:
            prepared, placement = through_pixels, placed
    if not int8_nodes(placement.nodes):
        raise errors.nothing_to_quantize(model, [node.reason for node in placement.nodes])
    statistics = calibrate(prepared, placement.values, images, on_progress=on_progress)
    plan = plan_from(prepared, placement, statistics, target=target, method=method, per_channel=per_channel)
    return Planned(prepared, placement, plan)


def write_int8(prepared: ir.Model, plan: QuantPlan, *, made: str, parent: Path | str, output: Path | str) -> Audit:
    """Apply `plan`, write the file and audit it. `made` says how in its metadata, `parent` is the float file."""
    quantized = apply_plan(prepared, plan)
    quantized.metadata_props.update({"edgelathe.quantized": made, "edgelathe.parent_sha256": sha256_file(Path(parent))})
    file = ir.to_proto(quantized).SerializeToString(deterministic=True)
    audited = audit(file, plan.nodes)
    write_atomic(Path(output), file, "the int8 model")
    return audited
