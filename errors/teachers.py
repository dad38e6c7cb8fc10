"""Teachers: networks and ONNX files that a student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import EdgeLatheError


def unusable_file(path: Path, why: str, do: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot learn from the ONNX file {path}: {why}; {do}.")


def other_size(path: Path, asked: Sequence[int], declared: Sequence[int]) -> EdgeLatheError:
    wanted, fixed = (" x ".join(str(side) for side in sides) for sides in (asked, declared))
    return EdgeLatheError(
        f"Cannot give the ONNX file {path} images of {wanted}: its input is declared as {fixed}; leave size out."
    )


def other_classes(name: str, answers: int, logits: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot learn from the teacher {name}, which knows {answers} classes, in a network with {logits} outputs: "
        "all must know the same classes; leave it out or give one trained on this data."
    )


def rejects_images(name: str, shape: Sequence[int], why: str) -> EdgeLatheError:
    channels, height, width = shape
    return EdgeLatheError(
        f"Cannot learn from the teacher {name} with images of {channels} x {height} x {width}: {why}; "
        "set size to that of the images it was trained on."
    )


def none_given() -> EdgeLatheError:
    return EdgeLatheError("Cannot learn from several teachers: none is given; name at least one.")


def no_maps(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot take feature maps of the teacher {name}: an ONNX file gives its logits alone; "
        "leave it out of the hints, or give it as a PyTorch network."
    )
