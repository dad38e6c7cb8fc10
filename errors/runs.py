"""Recipes and runs."""

from __future__ import annotations

from pathlib import Path

from .base import EdgeLatheError


def wrong_recipe(sentence: str) -> EdgeLatheError:
    """`recipe_errors.explain` words it, because what to say depends on what pydantic found."""
    return EdgeLatheError(sentence)


def bad_override(override: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use "--set {override}": {why}; write for example --set stages.0.keep_macs=0.4.')


def run_in_use(folder: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot run in {folder}: another process is running there; wait for it or give the recipe another name."
    )


def export_differs(path: str, reason: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"The exported file {path} does not compute what the PyTorch network computes ({reason}); raise"
        " export.tolerance only if you know why, else report the network's operators."
    )


def would_overwrite(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot write the int8 model over {path}: it is the float model itself; give another file with --output."
    )


def option_without_data(option: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {option} without --data: say what kind of data it is, for example --data folder."
    )


def calibration_needs_data() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot quantize without images to calibrate on: name them with --data and --root, for example"
        " --data folder --root photos --size 224 --holdout 64."
    )
