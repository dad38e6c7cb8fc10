"""Measuring: ONNX files, runtimes, cores and samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError


def broken_onnx(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the model {path}: {why}; export or download the file again, and check that it is an ONNX model."
    )


def external_tensor(path: Path | str, tensor: str, location: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot read the model {path}: its tensor "{tensor}" is kept in "{location}", {why}; '
        "put the data file beside the model, or save the model with its weights inside."
    )


def unknown_dimension(path: Path | str, tensor: str, shape: Iterable[int | str]) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in shape)
    return EdgeLatheError(
        f'Cannot tell the size of input "{tensor}" [{dims}] of the model {path}: only its first dimension '
        "may be left open; give the shape of that input, or export the model with the others fixed."
    )


def wrong_input_shape(path: Path | str, tensor: str, declared: Iterable[int | str], given: str) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in declared)
    return EdgeLatheError(
        f'Cannot give input "{tensor}" [{dims}] of the model {path} the shape {given}: they do not agree; '
        "give the shape that the model declares."
    )


def unsupported_input_type(path: Path | str, tensor: str, dtype: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot make up values for input "{tensor}" of the model {path}: its type {dtype} is none that '
        "numpy has; give a model that takes float or integer inputs."
    )


def missing_runtime(runtime: str, package: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot measure under the runtime "{runtime}": it is not installed; run "pip install {package}".'
    )


def runtime_refused(runtime: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'The runtime "{runtime}" cannot run the model {path}: {why}; '
        "check that the file is whole and that this version of the runtime knows its operators."
    )


def worker_died(runtime: str, path: Path | str, code: int | None, last_words: str) -> EdgeLatheError:
    said = f" after saying: {last_words}" if last_words else ""
    return EdgeLatheError(
        f'The process that ran the model {path} under "{runtime}" ended with code {code}{said}; '
        "run again with more free memory, or try the file in the runtime alone."
    )


def unknown_cores(cores: Iterable[int], available: Iterable[int]) -> EdgeLatheError:
    asked = ", ".join(map(str, cores))
    return EdgeLatheError(
        f"Cannot pin a measurement to the processor cores {asked}: this process may use only "
        f"{', '.join(map(str, available))}; choose among those."
    )


def too_many_threads(threads: int, cores: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot measure with {threads} threads on {cores} processor cores: threads would wait for each "
        f"other; ask for between 1 and {cores} threads."
    )


def nothing_to_measure() -> EdgeLatheError:
    return EdgeLatheError("Cannot measure latency: no model was given; name at least one ONNX file.")


def too_few_samples(quantile: float, samples: int, needed: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot give the {100 * quantile:g} % percentile of {samples} samples: at least {needed} are needed "
        "to have ten beyond it; measure longer, or ask for the median."
    )


def not_a_classifier(path: Path | str, shape: Iterable[int]) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in shape)
    return EdgeLatheError(
        f"Cannot classify with the model {path}: its first output has the shape [{dims}] instead of "
        "[images, classes]; give a classifier, or one with its classes as the first output."
    )


def not_finite_output(path: Path | str, image: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot classify with the model {path}: its output for image {image} is NaN or infinite; "
        "check that image, the preprocessing and the model's weights."
    )


def no_images() -> EdgeLatheError:
    return EdgeLatheError("Cannot give an accuracy of no images: give at least one labelled image.")
