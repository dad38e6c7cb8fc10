"""The verbs that write an ONNX file from an ONNX file: quantize, store-weights, tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .. import errors, verbs
from .options import DataSource, Holdout, Json, Mean, Quiet, Resize, Root, Seed, Size, Std, load, numbers
from .output import progress_bar, say_unless


def quantize(
    model: Annotated[Path, typer.Argument(help="The float ONNX file.")],
    data: DataSource = None,
    root: Root = None,
    size: Size = None,
    resize: Resize = None,
    holdout: Holdout = 0,
    images: Annotated[int, typer.Option(help="How many images to calibrate on.")] = 512,
    mean: Mean = None,
    std: Std = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside the model.")] = None,
    target: Annotated[str, typer.Option(help="x86-vnni, x86-avx2, arm64, openvino or litert.")] = "x86-vnni",
    method: Annotated[
        str, typer.Option(help="How ranges are chosen: mse, entropy, percentile, moving-average or minmax.")
    ] = "mse",
    per_channel: Annotated[bool, typer.Option(help="One weight scale per output channel.")] = True,
    keep_float: Annotated[list[str] | None, typer.Option(help="A node that must stay float; repeatable.")] = None,
    equalize: Annotated[
        str, typer.Option(help="Scale channels to one range: by their weights or activations, none, or auto.")
    ] = "auto",
    correct_bias: Annotated[
        str, typer.Option(help="Take mean errors of channels out of their biases: empirical, analytic or none.")
    ] = "empirical",
    rounding: Annotated[
        str, typer.Option(help="nearest, compensated, or learned in minutes: layers, blocks or network.")
    ] = "nearest",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize an ONNX file to int8 and say which operators run in int8 and why others do not."""
    if method == "dynamic":  # before it is said that images are missing, which dynamic ranges would not need
        raise errors.quantize.dynamic_quantization()
    images_of = load(data, root, size, resize, holdout, seed, lazy=True)
    if images_of is None:
        raise errors.runs.calibration_needs_data()
    with progress_bar("calibrate", as_json or quiet) as on_progress:
        result, path = verbs.quantize(
            model,
            images_of,
            output=output,
            images=images,
            mean=numbers("--mean", mean),
            std=numbers("--std", std),
            target=target,
            method=method,
            per_channel=per_channel,
            keep_float=keep_float or (),
            equalize=equalize,
            correct_bias=correct_bias,
            rounding=rounding,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        typer.echo(json.dumps({"file": str(path), **result.as_dict()}, indent=1))
    elif not quiet:
        from ..printing import print_quantized

        print_quantized(result, path)


def store_weights(
    model: Annotated[Path, typer.Argument(help="The float ONNX file.")],
    format: Annotated[str, typer.Option(help="int8, int4 or float16.")] = "int8",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside the model.")] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="A node whose weights stay float32, or a .json list of them; repeatable.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an ONNX file smaller by storing its weights in fewer bits; it still computes in float, and no faster.

    Needs no images. For files that are faster as well, see quantize.
    """
    result, path = verbs.store_weights(model, output=output, format=format, keep_float=keep_float or ())
    if as_json:
        typer.echo(json.dumps({"file": str(path), **result.as_dict()}, indent=1))
    elif not quiet:
        from ..printing import print_stored

        print_stored(result, path)


def tune(
    model: Annotated[Path, typer.Argument(help="The float ONNX file.")],
    data: DataSource = None,
    root: Root = None,
    size: Size = None,
    resize: Resize = None,
    holdout: Holdout = 0,
    max_accuracy_drop: Annotated[float, typer.Option(help="Points of accuracy that int8 may lose.")] = 0.3,
    judge: Annotated[
        str, typer.Option(help="Count right answers lost (labels), or answers that are not those of the file (float).")
    ] = "labels",
    minutes: Annotated[float, typer.Option(help="Budget of the search, over all its runs.")] = 10.0,
    weight_size: Annotated[
        float | None, typer.Option(help="Fewer bits for weights, to this share of their coded size at eight bits.")
    ] = None,
    images: Annotated[int, typer.Option(help="How many images to calibrate on.")] = 512,
    judged: Annotated[int, typer.Option(help="How many others to judge files on.")] = 1000,
    mean: Mean = None,
    std: Std = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside the model.")] = None,
    target: Annotated[str, typer.Option(help="Processor family, as for quantize.")] = "x86-vnni",
    method: Annotated[str, typer.Option(help="How ranges are chosen in the first file.")] = "mse",
    per_channel: Annotated[bool, typer.Option(help="One weight scale per output channel in the first file.")] = True,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="A node that must stay float, or a .json list of them; repeatable.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for the fastest int8 file within an accuracy drop: schemes, then float for the layers that need it.

    The best so far is always on disk; the same command continues a search that was interrupted. Exit code 1: no file
    kept the drop, and the most accurate one was written.
    """
    images_of = load(data, root, size, resize, holdout, seed)
    if images_of is None:
        raise errors.runs.calibration_needs_data()
    result, path = verbs.tune(
        model,
        images_of,
        output=output,
        max_accuracy_drop=max_accuracy_drop,
        judge=judge,
        minutes=minutes,
        weight_size=weight_size,
        images=images,
        judged=judged,
        mean=numbers("--mean", mean),
        std=numbers("--std", std),
        target=target,
        method=method,
        per_channel=per_channel,
        keep_float=keep_float or (),
        seed=seed,
        say=say_unless(as_json or quiet),
    )
    if as_json:
        typer.echo(json.dumps({"file": str(path), **result.as_dict()}, indent=1))
    elif not quiet:
        from ..printing import print_searched

        print_searched(result, path)
    raise typer.Exit(0 if result.held else 1)
