"""Latency of PyTorch networks as the files that they would be shipped as, on the runtime that would run them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .bench.latency import measure_latency
from .compress.quantize.quantize import quantize
from .files import sha256_file
from .recipe import Recipe
from .recipe_stages import Qat, Quantize

if TYPE_CHECKING:
    from torch import Tensor, nn

SECONDS = 1.5
"""Budget of each measurement."""

LatencyOf = Literal["float", "int8"]


@dataclass(frozen=True)
class Deployment:
    """Where networks will run."""

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    target: str = "x86-vnni"
    """What int8 files are made for."""


def deployment_of(recipe: Recipe) -> Deployment:
    """The first runtime and thread count that a recipe measures on, and the target that it first quantizes for."""
    targets = [stage.target for stage in recipe.stages if isinstance(stage, Quantize | Qat)]
    bench = recipe.bench
    return Deployment(bench.runtimes[0], bench.threads[0], bench.batch, (*targets, Deployment.target)[0])


def latency_against(
    whole: nn.Module,
    example: Tensor,
    folder: Path,
    *,
    deployment: Deployment,
    latency_of: LatencyOf = "float",
    seconds: float = SECONDS,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Callable[[nn.Module], float]:
    """A function from a network to its latency, as a share of that of `whole`.

    Both are measured as ONNX files in turns, so that what the machine does besides hits both alike; one that gives
    the same file takes 1.0 of itself and is not measured. A network that is measured again is not exported again.

    example    -- float32 [N,C,H,W], preprocessed; int8 ranges come from it, since only time is asked for.
    folder     -- where the files are written.
    latency_of -- "int8": both files are quantized for `deployment.target`.
    seconds    -- budget of each measurement.

    The function raises EdgeLatheError for networks that cannot be exported, quantized or run.
    """
    written: weakref.WeakKeyDictionary[nn.Module, Path] = weakref.WeakKeyDictionary()
    numbers = itertools.count()

    def file_of(network: nn.Module) -> Path:
        if network not in written:
            path = folder / f"{next(numbers)}.onnx"
            written[network] = write_deployed(network, example, path, latency_of, deployment.target)
        return written[network]

    reference = file_of(whole)

    def measure(network: nn.Module) -> float:
        path = file_of(network)
        if sha256_file(path) == sha256_file(reference):
            return 1.0
        files = {"whole": reference, "network": path}
        measured = measure_latency(
            files,
            reference="whole",
            runtime=deployment.runtime,
            threads=deployment.threads,
            batch=deployment.batch,
            seconds=seconds,
            seed=seed,
        )["network"]
        say(f"{measured.median_ms:.3g} ms, {measured.ratio:.1%} of the whole network in {latency_of}")
        return measured.ratio

    return measure


def write_deployed(network: nn.Module, example: Tensor, path: Path, latency_of: LatencyOf, target: str) -> Path:
    from .export.to_onnx import export_onnx

    export_onnx(network, example[:1], path)
    if latency_of == "float":
        return path
    quantized = path.with_suffix(".int8.onnx")
    quantize(path, quantized, example.numpy(), target=target, equalize="none", correct_bias="none")
    return quantized
