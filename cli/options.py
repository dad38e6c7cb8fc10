"""The options that verbs share, and the reading of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import errors

if TYPE_CHECKING:
    from ..data import Dataset

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


def load(
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
    from ..data import load_data

    return load_data(data, root, size=size, resize=resize, holdout=holdout, seed=seed, lazy=lazy)


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as reason:
        raise errors.inputs.impossible_setting(
            option, text, "numbers with commas between, as in 0.5,0.5,0.5"
        ) from reason
