"""Export to ONNX and its proof."""

from __future__ import annotations

from pathlib import Path

from .base import EdgeLatheError


def unsuitable_example(dtype: str, shape: tuple[int, ...]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export with an example of type {dtype} and shape {list(shape)}: give a float32 tensor of "
        "shape [images, channels, height, width] with at least one image."
    )


def parameters_not_finite(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot export the network: its parameter "{name}" holds NaN or infinite values; '
        "load good weights, or train again with a lower lr."
    )


def unsuitable_output(what: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export the network: it returns {what} instead of one float32 tensor with the images along "
        "its first axis; wrap it in a module that returns the logits alone."
    )


def network_fixes_batch() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot export the network with a dynamic batch: its forward fixes the number of images; take that "
        "number from the input (x.flatten(1) instead of x.view(2, -1)), or export with dynamic_batch = false."
    )


def cannot_export(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export the network to ONNX: {why}; rewrite that part of its forward with standard "
        "operations that do not depend on the values of the images."
    )


def bad_metadata(key: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use the metadata "{key}": {why}; correct it or export the model again.')


def too_few_inputs(count: int, batch: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare the exported model at batch {batch} with {count} inputs: give at least {batch} "
        "inputs, or smaller batches."
    )


def wrong_reference_output(shape: tuple[int, ...], count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare with a reference whose output has shape {list(shape)} for {count} inputs: it must "
        "be an array with one row per input."
    )


def bad_test_vectors(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use the test vectors {path}: {why}; export the model again to write new ones.")
