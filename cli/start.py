"""The command line: one function per verb, no logic: parse, call, print.

Exit codes: 0 done (for `run` and `gate`: every budget kept), 1 a budget is broken, 2 bad input or cannot judge,
130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .. import errors
from ..compress.parallel import launched, launched_as
from ..deferred import RARELY_USED, defer
from ..errors import EdgeLatheError
from ..version import __version__
from . import measuring, onnx_files, packing, runs, studies

app = typer.Typer(
    help="Distil, prune, quantize, prove, measure and gate vision networks for edge CPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXAMPLES: dict[Callable[..., None], str] = {
    runs.run: "run recipes/cifar10-resnet32.toml --set stages.0.keep_macs=0.4",
    runs.plan: "plan recipes/cifar10-resnet32.toml --scan --output widths.toml",
    onnx_files.quantize: "quantize model.onnx --data folder --root photos --size 224 --resize 256 --holdout 64",
    onnx_files.store_weights: "store-weights model.onnx --format float16",
    packing.pack: "pack model.onnx --bits 5 -o model.elp",
    packing.unpack: "unpack model.elp -o model.onnx",
    onnx_files.tune: "tune model.onnx --data cifar10 --root data --max-accuracy-drop 0.3 --minutes 10",
    measuring.bench: "bench float.onnx int8.onnx --threads 1 --threads 2 --data digits --size 16",
    measuring.explain: "explain model.onnx model.int8.onnx",
    measuring.inspect: "inspect model.onnx --json",
    runs.gate: "gate runs/digits --budget budget.toml --baseline main/report.json",
    runs.report: "report runs/digits",
    studies.study: "study study-prune-kinds --set seeds=[0,1,2]",
    measuring.doctor: "doctor",
}
"""Every verb in the order of `--help`, and the example that its help ends with."""

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
    if launched_as() > 0:
        sentence = f"[process {launched_as()}] {sentence}"
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
    context: typer.Context,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if launched() > 1 and context.invoked_subcommand not in (None, "run"):
        raise errors.training.verb_in_processes(str(context.invoked_subcommand), launched())


for verb, example in EXAMPLES.items():
    app.command(epilog=f"Example: edgelathe {example}")(verb)
