"""The verbs that make ONNX files small for sending and storing: pack, unpack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .. import verbs
from .options import Json, Quiet


def pack(
    model: Annotated[Path, typer.Argument(help="An ONNX file: float, int8, pruned.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside the model.")] = None,
    bits: Annotated[
        int | None,
        typer.Option(help="First let the weights of each layer share 2 ** BITS values, 1 to 8 (default: no change)."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack an ONNX file for sending and storing; unpack gives the same bytes back. It runs only when unpacked.

    With --bits the weights change, and it is the model with shared weights that unpack gives back.
    """
    packed, shared, path = verbs.pack(model, output=output, bits=bits)
    if as_json:
        facts = {"file": str(path), **packed.as_dict()}
        typer.echo(json.dumps(facts | ({} if shared is None else {"shared": shared.as_dict()}), indent=1))
    elif not quiet:
        typer.echo(f"{path}: {packed.summary()}" + ("" if shared is None else f"; {shared.summary()}"))


def unpack(
    packed: Annotated[Path, typer.Argument(help="A file that pack wrote.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: beside it, as .onnx.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give back the ONNX file that was packed, byte by byte, and refuse a file that was changed."""
    unpacked, path = verbs.unpack(packed, output=output)
    if as_json:
        typer.echo(json.dumps({"file": str(path), **unpacked.as_dict()}, indent=1))
    elif not quiet:
        typer.echo(f"{path}: {unpacked.summary()}")
