"""Int8 files of one float model under many settings, with one reading of the file and one calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ... import errors
from ...files import sha256_file
from .apply import apply_plan
from .calibrate import calibrate
from .exact_pixels import PIXELS, exact_pixels
from .histogram import Histogram
from .imagechunks import Images
from .placement import Placement, int8_nodes, place
from .plan import QuantPlan, plan_from
from .prepare import prepare
from .ranges import Method
from .stem_to_depth import stem_to_depth
from .targets import TARGETS

Pixels = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Scheme:
    """Settings of a whole file, as `quantize` takes them."""

    method: Method = "mse"
    per_channel: bool = True

    def __str__(self) -> str:
        return f"{self.method} {'per-channel' if self.per_channel else 'per-tensor'}"


@dataclass(frozen=True)
class Built:
    prepared: ir.Model
    plan: QuantPlan
    file: bytes


class Builder:
    """Reads `model` once and calibrates on `images` when the first file is built; values that a later placement adds
    are calibrated then.

    Raises EdgeLatheError for unknown targets, and as `prepare` and `calibrate` do.
    """

    def __init__(self, model: Path, images: Images, *, target: str, pixels: Pixels | None = None) -> None:
        if target not in TARGETS:
            raise errors.unknown_choice("target", target, TARGETS)
        self.model, self.images, self.target = model, images, target
        self.plain = prepare(model)
        self._through_pixels = None if pixels is None else exact_pixels(self.plain, *pixels)
        if self._through_pixels is not None:
            stem_to_depth(self._through_pixels, PIXELS)
        self._statistics: dict[int, dict[str, Histogram]] = {}

    def build(
        self, scheme: Scheme, *, keep_float: Sequence[str] = (), weight_bits: Mapping[str, int] | None = None
    ) -> Built:
        """The file that `quantize` writes with these settings; bits of operators that stay float are left aside."""
        prepared, placement = self._placed(keep_float)
        plan = self._plan(prepared, placement, scheme, weight_bits)
        quantized = apply_plan(prepared, plan)
        quantized.metadata_props.update(
            {
                "edgelathe.quantized": f"{self.target} {scheme}",
                "edgelathe.parent_sha256": sha256_file(self.model),
            }
        )
        return Built(prepared, plan, ir.to_proto(quantized).SerializeToString(deterministic=True))

    def plain_plan(self, scheme: Scheme, *, keep_float: Sequence[str] = ()) -> QuantPlan:
        """The plan for the graph `plain`, whose first convolution reads normalised inputs."""
        return self._plan(self.plain, place(self.plain, keep_float=keep_float, target=self.target), scheme, None)

    def leaves_int8(self, keep_float: Sequence[str]) -> bool:
        """Whether anything would run in int8."""
        return bool(int8_nodes(place(self.plain, keep_float=keep_float, target=self.target).nodes))

    def _placed(self, keep_float: Sequence[str]) -> tuple[ir.Model, Placement]:
        if self._through_pixels is not None:
            placement = place(self._through_pixels, keep_float=keep_float, target=self.target)
            if PIXELS in placement.values:
                return self._through_pixels, placement
        placement = place(self.plain, keep_float=keep_float, target=self.target)
        if not int8_nodes(placement.nodes):
            raise errors.nothing_to_quantize(self.model, [node.reason for node in placement.nodes])
        return self.plain, placement

    def _plan(
        self, prepared: ir.Model, placement: Placement, scheme: Scheme, weight_bits: Mapping[str, int] | None
    ) -> QuantPlan:
        known = self._statistics.setdefault(id(prepared), {})
        missing = [name for name in placement.values if name not in known]
        if missing:
            known.update(calibrate(prepared, missing, self.images))
        int8 = {node.name for node in int8_nodes(placement.nodes)}
        return plan_from(
            prepared,
            placement,
            known,
            target=self.target,
            method=scheme.method,
            per_channel=scheme.per_channel,
            weight_bits={name: bits for name, bits in (weight_bits or {}).items() if name in int8},
        )
