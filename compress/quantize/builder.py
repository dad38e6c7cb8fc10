"""Int8 files of one float model under many settings, with one reading of the file and one calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir

from ... import errors
from ...files import sha256_file
from .apply import apply_plan
from .calibration.calibrate import calibrate
from .calibration.histogram import Histogram
from .calibration.imagechunks import Images, Spread, as_sliceable
from .calibration.ranges import METHODS, Method
from .passes.exact_pixels import PIXELS, exact_pixels
from .passes.prepare import prepare
from .passes.stem_to_depth import stem_to_depth
from .placing.placement import Placement, int8_nodes, place
from .placing.targets import TARGETS
from .plan import QuantPlan, plan_from
from .repair.bias_correction import Method as BiasMethod
from .repair.bias_correction import correct_bias
from .repair.compensated_rounding import compensate_rounding
from .repair.equalize import By, equalizable, equalize

Pixels = tuple[Sequence[float], Sequence[float]]
Rounding = Literal["nearest", "compensated", "layers", "blocks", "network"]
ROUNDED: dict[Rounding, str] = {
    "compensated": "compensated rounding",
    "layers": "rounding learned by layers",
    "blocks": "rounding learned by blocks",
    "network": "rounding learned by the network",
}
MOMENT_IMAGES = 128
"""Of the calibration images, how many second moments are taken from: they need fewer than a range."""
MEAN_IMAGES, MEAN_PIXELS = (16, 64), 2**20
"""And means: as many as have so many pixels together, within these bounds."""


@dataclass(frozen=True)
class Scheme:
    """Settings of a whole file. Raises EdgeLatheError for words that it does not know."""

    method: Method = "mse"
    per_channel: bool = True
    equalize: By | None = None
    """What channels are scaled by before anything is quantized; None leaves them."""
    correct_bias: BiasMethod | None = None
    rounding: Rounding = "nearest"
    """Whether codes of weights are the nearest, make up for each other's errors, or are learned in PyTorch."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise errors.quantize.unknown_method(self.method, METHODS)
        for key, known in (("equalize", By), ("correct_bias", BiasMethod), ("rounding", Rounding)):
            word = getattr(self, key)
            if word is not None and word not in get_args(known):
                raise errors.inputs.unknown_choice(key, word, get_args(known))

    def __str__(self) -> str:
        words = [self.method, "per-channel" if self.per_channel else "per-tensor"]
        words += [f"equalized by {self.equalize}"] if self.equalize else []
        words += [f"{self.correct_bias} bias correction"] if self.correct_bias else []
        words += [ROUNDED[self.rounding]] if self.rounding != "nearest" else []
        return ", ".join(words) if len(words) > 2 else " ".join(words)


@dataclass(frozen=True)
class Planned:
    """What rounding alone would do, before anything is repaired or trained."""

    prepared: ir.Model
    placement: Placement
    plan: QuantPlan
    statistics: dict[str, Histogram]
    """By name, of every quantized value that does not only repeat others."""


@dataclass(frozen=True)
class Built:
    prepared: ir.Model
    plan: QuantPlan
    statistics: dict[str, Histogram]
    """By name, of every quantized value that does not only repeat others, before anything was learned."""
    file: bytes


class Builder:
    """Reads `model` once and calibrates on `images` when the first file is built; values that a later placement adds
    are calibrated then.

    Raises EdgeLatheError for unknown targets, and as `prepare` and `calibrate` do.
    """

    def __init__(
        self,
        model: Path,
        images: Images,
        *,
        target: str,
        pixels: Pixels | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if target not in TARGETS:
            raise errors.inputs.unknown_choice("target", target, TARGETS)
        self.model, self.images, self.target = model, images, target
        self._pixels = pixels if TARGETS[target].runtime == "onnxruntime" else None
        self._on_progress = on_progress
        self.plain = prepare(model)
        self._graphs: dict[tuple[By | None, bool], ir.Model | None] = {(None, False): self.plain}
        self._statistics: dict[int, dict[str, Histogram]] = {}

    def build(
        self, scheme: Scheme, *, keep_float: Sequence[str] = (), weight_bits: Mapping[str, int] | None = None
    ) -> Built:
        """The int8 file with these settings; bits of operators that stay float are left aside."""
        planned = self.planned(scheme, keep_float=keep_float, weight_bits=weight_bits)
        prepared, placement, plan = planned.prepared, planned.placement, planned.plan
        repaired = prepared
        if scheme.rounding == "compensated":
            few = Spread(as_sliceable(self.images), MOMENT_IMAGES)
            repaired = compensate_rounding(prepared, plan, few, on_progress=self._on_progress)
        elif scheme.rounding != "nearest":
            from .learning.reconstruct import reconstruct

            learned = reconstruct(
                prepared, placement, plan, self.images, granularity=scheme.rounding, on_progress=self._on_progress
            )
            repaired, plan = learned.prepared, learned.plan
        if scheme.correct_bias is not None:
            repaired = correct_bias(
                repaired,
                plan,
                _for_means(self.images),
                method=scheme.correct_bias,
                reference=prepared,
                on_progress=self._on_progress,
            )
        return Built(repaired, plan, planned.statistics, self.file(repaired, plan, str(scheme)))

    def planned(
        self, scheme: Scheme, *, keep_float: Sequence[str] = (), weight_bits: Mapping[str, int] | None = None
    ) -> Planned:
        """The plan that `build` starts from."""
        prepared, placement = self._placed(scheme.equalize, keep_float)
        plan = self._plan(prepared, placement, scheme, weight_bits)
        statistics = {name: self._statistics[id(prepared)][name] for name in placement.measured}
        return Planned(prepared, placement, plan, statistics)

    def file(self, prepared: ir.Model, plan: QuantPlan, how: str) -> bytes:
        """The int8 file of a plan; `how` it was made goes into its metadata, beside the target and the float file."""
        quantized = apply_plan(prepared, plan)
        quantized.metadata_props.update(
            {
                "edgelathe.quantized": f"{self.target} {how}",
                "edgelathe.parent_sha256": sha256_file(self.model),
            }
        )
        return ir.to_proto(quantized).SerializeToString(deterministic=True)

    def float_graph(self, scheme: Scheme) -> ir.Model:
        """The float network that the scheme quantizes, whose first convolution reads normalised inputs."""
        graph = self._graph(scheme.equalize, pixels=False)
        assert graph is not None
        return graph

    def float_graph_plan(self, scheme: Scheme, *, keep_float: Sequence[str] = ()) -> QuantPlan:
        """The scheme's plan for `float_graph`."""
        graph = self.float_graph(scheme)
        return self._plan(graph, place(graph, keep_float=keep_float, target=self.target), scheme, None)

    def leaves_int8(self, keep_float: Sequence[str]) -> bool:
        """Whether anything would run in int8."""
        return bool(int8_nodes(place(self.plain, keep_float=keep_float, target=self.target).nodes))

    def _graph(self, equalized: By | None, *, pixels: bool) -> ir.Model | None:
        """The float graph in one of its forms; None where the first convolution cannot read pixels."""
        if (equalized, pixels) not in self._graphs:
            if pixels:
                base = self._graph(equalized, pixels=False)
                graph = None if base is None or self._pixels is None else exact_pixels(base, *self._pixels)
                if graph is not None:
                    stem_to_depth(graph, PIXELS)
            else:
                assert equalized is not None
                values = equalizable(self.plain, by=equalized)
                graph = equalize(self.plain, by=equalized, statistics=self._known(self.plain, values))
            self._graphs[equalized, pixels] = graph
        return self._graphs[equalized, pixels]

    def _placed(self, equalized: By | None, keep_float: Sequence[str]) -> tuple[ir.Model, Placement]:
        for pixels in (True, False):
            graph = self._graph(equalized, pixels=pixels)
            if graph is None:
                continue
            placement = place(graph, keep_float=keep_float, target=self.target)
            if not pixels and not int8_nodes(placement.nodes):
                raise errors.quantize.nothing_to_quantize(self.model, [node.reason for node in placement.nodes])
            if not pixels or PIXELS in placement.values:
                return graph, placement
        raise AssertionError("the graph without pixels is always there")

    def _known(self, graph: ir.Model, values: Sequence[str]) -> dict[str, Histogram]:
        """Statistics of at least these values of the graph."""
        known = self._statistics.setdefault(id(graph), {})
        missing = [name for name in values if name not in known]
        if missing:
            known.update(calibrate(graph, missing, self.images, on_progress=self._on_progress))
        return known

    def _plan(
        self, prepared: ir.Model, placement: Placement, scheme: Scheme, weight_bits: Mapping[str, int] | None
    ) -> QuantPlan:
        int8 = {node.name for node in int8_nodes(placement.nodes)}
        return plan_from(
            prepared,
            placement,
            self._known(prepared, placement.measured),
            target=self.target,
            method=scheme.method,
            per_channel=scheme.per_channel,
            weight_bits={name: bits for name, bits in (weight_bits or {}).items() if name in int8},
        )


def _for_means(images: Images) -> Spread:
    source = as_sliceable(images)
    pixels = math.prod(np.shape(source[:1])[2:])
    return Spread(source, int(np.clip(MEAN_PIXELS // max(1, pixels), *MEAN_IMAGES)))
