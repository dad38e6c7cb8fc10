"""Post-training quantization of an ONNX file: prepare, place, calibrate, plan, apply, audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx_ir as ir

from ... import errors
from ...files import write_atomic
from .audit import Audit, audit, unaudited
from .builder import Builder, Pixels, Rounding, Scheme
from .calibration.coverage import Coverage, coverage, coverage_summary
from .calibration.imagechunks import Images, as_sliceable
from .calibration.ranges import Method
from .placing.keep_float import check_keep_float
from .placing.targets import TARGETS
from .plan import QuantPlan
from .repair.equalize import automatic

Equalize = Literal["auto", "weights", "activations", "none"]
CorrectBias = Literal["empirical", "analytic", "none"]


@dataclass(frozen=True)
class Quantized:
    plan: QuantPlan
    audit: Audit
    coverage: tuple[Coverage, ...]
    images: int
    """How many images the ranges were calibrated on."""

    def as_dict(self) -> dict[str, Any]:
        """Everything but the codes, as JSON values."""
        return {
            "summary": self.summary(),
            "calibration": coverage_summary(self.coverage),
            "images": self.images,
            "audit": asdict(self.audit),
            "coverage": [asdict(one) for one in self.coverage],
        }

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
    equalize: Equalize = "auto",
    correct_bias: CorrectBias = "empirical",
    rounding: Rounding = "nearest",
    pixels: Pixels | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Quantized:
    """Write an int8 version of an ONNX model, in standard QuantizeLinear/DequantizeLinear form.

    images       -- float32 [N, C, H, W], preprocessed as the model expects, or a sequence of such batches; how they
                    are batched does not change a byte of the result.
    target       -- the processor family or runtime (`TARGETS`).
    method       -- how activation ranges are chosen (`METHODS`).
    keep_float   -- nodes, or values that they compute, that must stay float.
    equalize     -- scale channels so that one range fits them all, by their weights or activations (Nagel et al. 2019);
                    "auto" does so by weights where it pays (`automatic` in repair/equalize.py).
    correct_bias -- take the mean error of every channel out of its bias, "empirical": measured, or "analytic":
                    computed from mean inputs (Nagel et al. 2019).
    rounding     -- "nearest", "compensated" (codes make up for each other's errors; compensated_rounding.py), or
                    learned in PyTorch by layers, blocks or the network (Nagel et al. 2020, Li et al. 2021;
                    reconstruct.py).
    pixels       -- (mean, std) per channel that pixels / 255 are normalised by; where it is known, the first
                    convolution reads the pixels themselves (exact_pixels.py).
    on_progress  -- called with (done, total) of each long step.

    Raises EdgeLatheError for unreadable models, unknown words and nodes, unusable images, nodes in `keep_float` that
    stay float anyway, and models in which nothing can run in int8.
    """
    builder = Builder(Path(model), images, target=target, pixels=pixels, on_progress=on_progress)
    scheme = scheme_of(builder.plain, method, per_channel, equalize, correct_bias, rounding)
    check_keep_float(builder.plain, keep_float, target=target)
    built = builder.build(scheme, keep_float=keep_float)
    audited = audit_for(target, built.file, built.plan)
    measured = {name: built.plan.codes[name] for name in built.statistics}
    covered = coverage(built.statistics, measured, lowest_code=TARGETS[target].lowest_code)
    write_atomic(Path(output), built.file, "the int8 model")
    return Quantized(built.plan, audited, covered, len(as_sliceable(images)))


def scheme_of(
    prepared: ir.Model,
    method: Method,
    per_channel: bool,
    equalize: Equalize,
    correct_bias: CorrectBias,
    rounding: Rounding,
) -> Scheme:
    """The scheme behind the words of a user, for this graph. Raises EdgeLatheError for those that are not known.

    The network's own rounding learns biases, and scales channels, so that no float network has the same means.
    """
    for key, word, known in (("equalize", equalize, Equalize), ("correct_bias", correct_bias, CorrectBias)):
        if word not in get_args(known):
            raise errors.inputs.unknown_choice(key, word, get_args(known))
    by = automatic(prepared, per_channel=per_channel) if equalize == "auto" else equalize
    corrected = None if correct_bias == "none" or rounding == "network" else correct_bias
    return Scheme(method, per_channel, None if by == "none" else by, corrected, rounding)


def audit_for(target: str, file: bytes, plan: QuantPlan) -> Audit:
    """What ONNX Runtime makes of the file, or the plan where the file is for another runtime."""
    wants = TARGETS[target]
    if wants.runtime != "onnxruntime":
        return unaudited(plan.nodes, wants.runtime)
    return audit(file, plan.nodes, signed=wants.activations == "int8")
