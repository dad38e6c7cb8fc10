"""The command line: one function per verb, no logic: parse, call, print.

Exit codes: 0 done (for `run` and `gate`: every budget kept), 1 a budget is broken, 2 bad input or cannot judge,
130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__, errors, verbs
from .deferred import RARELY_USED, defer
from .errors import EdgeLatheError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .bench.latency import Progress
    from .data import Dataset

app = typer.Typer(
    help="Distil, prune, quantize, prove, measure and gate vision networks for edge CPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
DataSource = Annotated[
    str | None,
    typer.Option("--data", help="digits, cifar10, cifar100, folder, npz or path/to/file.py:function."),
]
Root = Annotated[Path | None, typer.Option(help="Folder or file of the data set.")]
Size = Annotated[int | None, typer.Option(help="Side of the images, cut from the centre.")]
Resize = Annotated[int | None, typer.Option(help="Shorter side before the cut (default: --size).")]
Holdout = Annotated[int, typer.Option(help="Where there are no training images: how many test images to calibrate on.")]
Mean = Annotated[str | None, typer.Option(help="Per channel, e.g. 0.5,0.5,0.5 (default: the file's metadata).")]
Std = Annotated[str | None, typer.Option(help="Per channel, e.g. 0.5,0.5,0.5 (default: the file's metadata).")]
Seed = Annotated[int, typer.Option(help="Chooses images and orders.")]


INTERRUPTED = 130
UsageError: Any = typer.BadParameter.__base__
"""Typer has a copy of click inside, so click's own class is not the one that it raises."""


def main() -> None:
    """Entry point: errors of users become one sentence, interrupts a hint."""
    as_json = "--json" in sys.argv
    defer(*RARELY_USED)
    try:
        code = app(
            prog_name="edgelathe", standalone_mode=False
        )  # else Typer would print usage errors and swallow interrupts itself
    except EdgeLatheError as error:
        _say_error(str(error), as_json)
        sys.exit(2)
    except UsageError as error:
        if as_json:
            _say_error(error.format_message(), as_json)
        else:
            error.show()
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _say_error("Interrupted; what was finished is kept, and the same command continues.", as_json)
    sys.exit(code)


def _say_error(sentence: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": sentence}))  # noqa: T201
    else:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(sentence, style="bold red", markup=False, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: edgelathe run recipes/cifar10-resnet32.toml --set stages.0.keep_macs=0.4")
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of a shipped one (default: digits).")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value, repeatable; stages count from 0.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with predicted figures; train nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Carry out a recipe: train, prune, distil, export, quantize, measure, report, judge.

    A run that was interrupted continues when the same command is given again.
    """
    if dry_run:
        _print(verbs.plan(recipe, overrides=overrides or ()), as_json, quiet)
        return
    with _latency_progress(as_json or quiet) as on_round:
        report, folder = verbs.run(
            recipe,
            overrides=overrides or (),
            runs=runs,
            say=_say(as_json or quiet),
            progress=not (as_json or quiet),
            on_round=on_round,
        )
    _print(report, as_json, quiet)
    if not (as_json or quiet):
        typer.echo(f"\nModels and reports are in {folder} (open {folder / 'report.html'})")
    raise typer.Exit(report.gate.exit_code if report.gate else 0)


@app.command(
    epilog="Example: edgelathe quantize model.onnx --data folder --root photos --size 224 --resize 256 --holdout 64"
)
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
        str | None, typer.Option(help="Scale channels to one range: by their weights or activations.")
    ] = None,
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
    images_of = _load(data, root, size, resize, holdout, seed, lazy=True)
    if images_of is None:
        raise errors.runs.calibration_needs_data()
    with _bar("calibrate", as_json or quiet) as on_progress:
        result, path = verbs.quantize(
            model,
            images_of,
            output=output,
            images=images,
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
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
        from .printing import print_quantized

        print_quantized(result, path)


@app.command(epilog="Example: edgelathe store-weights model.onnx --format float16")
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
        from .printing import print_stored

        print_stored(result, path)


@app.command(
    epilog="Example: edgelathe tune model.onnx --data cifar10 --root data --max-accuracy-drop 0.3 --minutes 10"
)
def tune(
    model: Annotated[Path, typer.Argument(help="The float ONNX file.")],
    data: DataSource = None,
    root: Root = None,
    size: Size = None,
    resize: Resize = None,
    holdout: Holdout = 0,
    max_accuracy_drop: Annotated[float, typer.Option(help="Points of accuracy that int8 may lose.")] = 0.3,
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
    images_of = _load(data, root, size, resize, holdout, seed)
    if images_of is None:
        raise errors.runs.calibration_needs_data()
    result, path = verbs.tune(
        model,
        images_of,
        output=output,
        max_accuracy_drop=max_accuracy_drop,
        minutes=minutes,
        weight_size=weight_size,
        images=images,
        judged=judged,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        target=target,
        method=method,
        per_channel=per_channel,
        keep_float=keep_float or (),
        seed=seed,
        say=_say(as_json or quiet),
    )
    if as_json:
        typer.echo(json.dumps({"file": str(path), **result.as_dict()}, indent=1))
    elif not quiet:
        from .printing import print_searched

        print_searched(result, path)
    raise typer.Exit(0 if result.held else 1)


@app.command(epilog="Example: edgelathe bench float.onnx int8.onnx --threads 1 --threads 2 --data digits --size 16")
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
    with _latency_progress(as_json or quiet) as on_round:
        report = verbs.benchmark(
            models,
            data=_load(data, root, size, resize, holdout, seed),
            runtimes=runtime or ("onnxruntime",),
            threads=threads or (1,),
            batch=batch,
            seconds=seconds,
            memory=memory,
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
            seed=seed,
            say=_say(as_json or quiet),
            on_round=on_round,
        )
    _print(report, as_json, quiet)


@app.command(epilog="Example: edgelathe explain model.onnx model.int8.onnx")
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
    _print(verbs.explain(float_model, int8_model, runs=runs, seconds=seconds, seed=seed), as_json, quiet)


@app.command(epilog="Example: edgelathe inspect model.onnx --json")
def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")], as_json: Json = False, quiet: Quiet = False
) -> None:
    """Read an ONNX file without running it: operators, parameters, MACs, sizes, activation peak, int8 share."""
    _print(verbs.inspect(model), as_json, quiet)


@app.command(epilog="Example: edgelathe gate runs/digits --budget budget.toml --baseline main/report.json")
def gate(
    report: Annotated[Path, typer.Argument(help="A run's folder or its report.json.")],
    budget: Annotated[Path | None, typer.Option(help="TOML file of budgets (default: those of the recipe).")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Report that relative budgets refer to.")] = None,
    candidate: Annotated[str | None, typer.Option(help="Which file to judge (default: the last).")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a run by its budgets: exit code 0 all kept, 1 one broken, 2 cannot judge."""
    verdict = verbs.gate(report, budget=budget, baseline=baseline, candidate=candidate)
    _print(verdict, as_json, quiet)
    raise typer.Exit(verdict.exit_code)


@app.command(epilog="Example: edgelathe report runs/digits")
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder or its report.json.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a run's report and write its Markdown and HTML pages anew."""
    _print(verbs.report(run), as_json, quiet)


@app.command(epilog="Example: edgelathe doctor")
def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what this machine can do: instruction sets, runtimes, what int8 will bring, what disturbs measuring."""
    _print(verbs.doctor(), as_json, quiet)


# --- printing ------------------------------------------------------------------------------------------------


def _print(record: BaseModel, as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    elif not quiet:
        from .printing import print_record

        print_record(record)


def _say(silent: bool) -> Callable[[str], None]:
    return (lambda _: None) if silent else typer.echo


@contextlib.contextmanager
def _bar(title: str, silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar that is told (done, total)."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def _latency_progress(silent: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A line that says how far a latency measurement is and how narrow its interval."""
    if silent or not sys.stderr.isatty():
        yield None
        return

    def show(now: Progress) -> None:
        line = f"  {now.seconds:.0f} of {now.budget:.0f} s, {now.rounds} rounds, interval ±{50 * now.width:.1f} %"
        done = now.seconds >= now.budget
        sys.stderr.write(f"\r\033[K{'' if done else line}")
        sys.stderr.flush()

    yield show
    sys.stderr.write("\r\033[K")


# --- parsing -------------------------------------------------------------------------------------------------


def _load(
    data: str | None,
    root: Path | None,
    size: int | None,
    resize: int | None,
    holdout: int,
    seed: int,
    *,
    lazy: bool = False,
) -> Dataset | None:
    if data is None:
        given = {"--root": root, "--size": size, "--resize": resize, "--holdout": holdout or None}
        for option, value in given.items():
            if value is not None:
                raise errors.runs.option_without_data(option)
        return None
    from .data import load_data

    return load_data(data, root, size=size, resize=resize, holdout=holdout, seed=seed, lazy=lazy)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as reason:
        raise errors.inputs.impossible_setting(
            option, text, "numbers with commas between, as in 0.5,0.5,0.5"
        ) from reason
