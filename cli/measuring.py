"""The verbs that look at files and at the machine: bench, explain, inspect, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import verbs
from .options import DataSource, Holdout, Json, Mean, Quiet, Resize, Root, Seed, Size, Std, load, numbers
from .output import latency_line, print_record, say_unless


def bench(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; ratios refer to the first.")],
    data: DataSource = None,
    root: Root = None,
    size: Size = None,
    resize: Resize = None,
    holdout: Holdout = 0,
    mean: Mean = None,
    std: Std = None,
    runtime: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    batch: Annotated[int, typer.Option(help="Images per inference.")] = 1,
    seconds: Annotated[float, typer.Option(help="Budget of each latency measurement.")] = 20.0,
    memory: Annotated[bool, typer.Option(help="Measure resident memory too.")] = True,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure ONNX files against each other, interleaved: latency, memory, size, and with --data accuracy."""
    with latency_line(as_json or quiet) as on_round:
        report = verbs.benchmark(
            models,
            data=load(data, root, size, resize, holdout, seed),
            runtimes=runtime or ("onnxruntime",),
            threads=threads or (1,),
            batch=batch,
            seconds=seconds,
            memory=memory,
            mean=numbers("--mean", mean),
            std=numbers("--std", std),
            seed=seed,
            say=say_unless(as_json or quiet),
            on_round=on_round,
        )
    print_record(report, as_json, quiet)


def explain(
    float_model: Annotated[Path, typer.Argument(help="The float ONNX file.", metavar="FLOAT")],
    int8_model: Annotated[Path, typer.Argument(help="The int8 file made from it, by any tool.", metavar="INT8")],
    runs: Annotated[int, typer.Option(help="Runs of each file under the runtime's profiler.")] = 40,
    seconds: Annotated[float, typer.Option(help="Budget of the latency measurement.")] = 5.0,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say why int8 is as fast as it is: time by operator before and after, what stayed float and why."""
    print_record(verbs.explain(float_model, int8_model, runs=runs, seconds=seconds, seed=seed), as_json, quiet)


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")], as_json: Json = False, quiet: Quiet = False
) -> None:
    """Read an ONNX file without running it: operators, parameters, MACs, sizes, activation peak, int8 share."""
    print_record(verbs.inspect(model), as_json, quiet)


def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what this machine can do: instruction sets, runtimes, what int8 will bring, what disturbs measuring."""
    print_record(verbs.doctor(), as_json, quiet)
