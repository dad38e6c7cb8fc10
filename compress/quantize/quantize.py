"""Post-training quantization of an ONNX file: prepare, place, calibrate, plan, apply, audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ... import errors
from ...files import sha256_file, write_atomic
from .apply import apply_plan
from .audit import Audit, audit
from .calibrate import Images, as_sliceable, calibrate
from .exact_pixels import PIXELS, exact_pixels
from .keep_float import check_keep_float
from .placement import int8_nodes, place
from .plan import QuantPlan, plan_from
from .prepare import prepare
from .ranges import METHODS, Method
from .stem_to_depth import stem_to_depth
from .targets import TARGETS


@dataclass(frozen=True)
class Quantized:
    plan: QuantPlan
    audit: Audit
    images: int
    """How many images the ranges were calibrated on."""

    def as_dict(self) -> dict[str, Any]:
        """Everything but the codes, as JSON values."""
        return {"summary": self.summary(), "images": self.images, "audit": asdict(self.audit)}

    def summary(self) -> str:
        """One sentence: how much runs in int8, in the runtime that opened the file."""
        nodes = self.audit.nodes
        convolutions = [node for node in nodes if node.op == "Conv"]
        in_int8 = sum(node.kind != "float" for node in nodes)
        sentence = (
            f"{sum(node.kind == 'int8' for node in convolutions)} of {len(convolutions)} convolutions and {in_int8} of"
            f" {len(nodes)} operators in int8 ({self.audit.runtime}), ranges from {self.images} images"
        )
        left = len(self.audit.survivors)
        return f"{sentence}; {left} conversions left inside the graph" if left else sentence


def quantize(
    model: Path | str,
    output: Path | str,
    images: Images,
    *,
    target: str = "x86-vnni",
    method: Method = "mse",
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    pixels: tuple[Sequence[float], Sequence[float]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Quantized:
    """Write an int8 version of an ONNX model, in standard QuantizeLinear/DequantizeLinear form.

    `images` are float32 [N, C, H, W], preprocessed as the model expects, or a sequence of such batches; how they
    are batched does not change a byte of the result. `pixels` is the (mean, std) per channel that pixels / 255 are
    normalised by; where it is known, the first convolution reads the pixels themselves (exact_pixels.py). `target`
    names the processor family (`TARGETS`), `method` how
    activation ranges are chosen (`METHODS`), `keep_float` nodes or values that must stay float.

    Raises EdgeLatheError for unreadable models, unknown targets, methods or nodes, unusable images, and models in
    which nothing can run in int8.
    """
    if target not in TARGETS:
        raise errors.unknown_choice("target", target, TARGETS)
    if method not in METHODS:
        raise errors.unknown_method(method, METHODS)
    prepared = prepare(model)
    check_keep_float(prepared, keep_float, target=target)
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
    quantized = apply_plan(prepared, plan)
    quantized.metadata_props.update(
        {
            "edgelathe.quantized": f"{target} {method} {'per-channel' if per_channel else 'per-tensor'}",
            "edgelathe.parent_sha256": sha256_file(Path(model)),
        }
    )
    file = ir.to_proto(quantized).SerializeToString(deterministic=True)
    audited = audit(file, plan.nodes, signed=TARGETS[target].activations == "int8")
    write_atomic(Path(output), file, "the int8 model")
    return Quantized(plan, audited, len(as_sliceable(images)))
