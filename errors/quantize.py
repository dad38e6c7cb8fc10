"""Calibration, int8, weight formats and the precision search."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError
from .inputs import nearest, unknown_choice


def no_calibration_images() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot calibrate: there are no calibration images; give at least one, better 100 to 500 typical ones."
    )


def several_inputs(names: list[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate a model with {len(names)} inputs ({', '.join(names)}): only image models with one"
        " input are supported; split the other inputs off or make them constants."
    )


def calibration_shape(name: str, wanted: list[int | None], got: tuple[int, ...]) -> EdgeLatheError:
    shape = " x ".join("N" if dim is None else str(dim) for dim in wanted)
    return EdgeLatheError(
        f'Cannot calibrate input "{name}" of shape {shape} with images of shape {" x ".join(map(str, got))}:'
        " the shapes differ; check the size and channels of the data, or whether it is channels-last."
    )


def image_not_finite(index: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate with image {index}: it holds NaN or infinite values; repair or remove that image."
    )


def activation_not_finite(tensor: str, first: int, count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot calibrate tensor "{tensor}": it becomes NaN or infinite within images {first} to'
        f" {first + count - 1}; check that the float model works on them."
    )


def unknown_nodes(names: list[str], valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'No node or tensor of the model is named "{names[0]}": {nearest(names[0], valid)}')


def nothing_to_quantize(model: Path | str, reasons: list[str]) -> EdgeLatheError:
    common = max(set(reasons), key=reasons.count) if reasons else "it has no operators"
    return EdgeLatheError(
        f"Cannot quantize {model}: no operator of it can run in int8, most often because {common};"
        " keep the float model or give one with constant weights."
    )


def no_torch_operator(op: str, node: str, known: Iterable[str]) -> EdgeLatheError:
    near = difflib.get_close_matches(op, sorted(known), n=1, cutoff=0.8)
    hint = f" (it knows {near[0]})" if near else ""
    return EdgeLatheError(
        f'Cannot learn on the model: its operator {op} of the node "{node}" has no PyTorch counterpart here{hint};'
        " quantize without learned rounding and without training, or rewrite that part with common operators."
    )


def value_needs_input(wanted: Iterable[str], name: str, given: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot compute {", ".join(wanted)} from {", ".join(given) or "nothing"} alone: "{name}" is needed as well;'
        " give it, or every value that a path from it passes."
    )


def runtime_refuses(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"ONNX Runtime cannot open {path}: {why}; update onnxruntime or export the model for an older opset."
    )


def unreachable_weight_size(budget: float, least: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot bring the weights to {budget:g} of their size at eight bits: at the fewest bits they still take "
        f"{least:.2f} of it; ask for at least that."
    )


def too_few_to_judge(name: str, total: int, calibration: int, least: int) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot judge int8 files on the data set "{name}": of its {total} training images {calibration} are for '
        f"calibration, and at least {least} others are needed to judge on; use fewer images for calibration, or hold "
        "out more."
    )


def nothing_to_store(model: Path | str, format: str, reasons: list[str]) -> EdgeLatheError:
    common = max(set(reasons), key=reasons.count) if reasons else "it has no convolution or matrix product"
    return EdgeLatheError(
        f"Cannot store weights of {model} as {format}: none may be changed, most often because {common}; "
        "keep the file as it is."
    )


def stays_float_anyway(name: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot use "{name}" in keep_float: it stays float anyway ({why}); take it out of keep_float.'
    )


def opset_too_old(path: Path | str, found: int, oldest: int, need: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot raise {path} from opset {found} to {oldest}, which {need}: ONNX's version converter refuses it "
        f"({why}); export the model again with opset {oldest} or newer."
    )


def absorbed(name: str, reason: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot use "{name}" in keep_float: in int8 it is no operator of its own but goes {reason}; '
        "name that operator instead."
    )


def unknown_method(method: str, valid: Iterable[str]) -> EdgeLatheError:
    return dynamic_quantization() if method == "dynamic" else unknown_choice("calibration method", method, valid)


def dynamic_quantization(where: str = "") -> EdgeLatheError:
    """`where` names what asked for it: a key of a recipe, or nothing."""
    asked = f", as {where} asks" if where else ""
    return EdgeLatheError(
        f"Cannot quantize dynamically{asked}: measuring ranges anew on every image makes convolution networks slower "
        'than float; leave method out, or write "mse", and they are measured once, on calibration images.'
    )
