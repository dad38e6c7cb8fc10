"""The file of widths that `edgelathe plan` writes, people edit and the key `widths` of prune-channels names: TOML.

    [widths]
    "layer1.0.conv1" = 8         # channels
    "layer1.1.conv1" = 0.5       # a share of them

Layers that are left out keep their channels.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import errors

TABLE = "widths"


def read_widths(path: Path) -> dict[str, int | float]:
    """Widths by layer. Raises EdgeLatheError for a file that cannot be read or holds anything else."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.inputs.missing_file("the widths", path) from None
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise errors.inputs.unreadable_file("the widths", path, why, "check the path") from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as reason:
        why = f"it is not valid TOML ({reason})"
        raise errors.inputs.unreadable_file("the widths", path, why, "mend that line") from reason
    for name in document:
        if name != TABLE:
            raise errors.widths.unknown_table(path, name, [TABLE])
    table = document.get(TABLE)
    if not isinstance(table, dict):
        raise errors.widths.bad_widths_file(path, "it has no table called widths")
    return {name: _checked(path, name, width) for name, width in _flat(table)}


def _flat(table: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Names with points in them, however they were written: TOML takes layer1.0.conv1 without quotes for tables."""
    waiting: list[tuple[str, Any]] = list(table.items())
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, dict):
            waiting += [(f"{name}.{inner}", held) for inner, held in value.items()]
        else:
            yield name, value


def _checked(path: Path, name: str, width: Any) -> int | float:
    counted = isinstance(width, int) and not isinstance(width, bool) and width >= 1
    if not counted and not (isinstance(width, float) and 0 < width <= 1):
        raise errors.widths.bad_widths_file(path, f"{width!r} for {name} is neither a count nor a share of channels")
    return width


def widths_text(widths: Iterable[tuple[str, int, str]], head: Iterable[str] = (), left: Iterable[str] = ()) -> str:
    """The file's text: (layer, channels, remark) a line, with comments before and after."""
    rows = [(f"{json.dumps(layer, ensure_ascii=False)} = {channels}", remark) for layer, channels, remark in widths]
    longest = max([len(row) for row, _ in rows], default=0)
    lines = [f"{row:<{longest}}  {_comment(remark)}" for row, remark in rows]
    return "\n".join([*map(_comment, head), "", f"[{TABLE}]", *lines, *map(_comment, left)]) + "\n"


def _comment(text: str) -> str:
    """One line of printable characters: TOML allows no others."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return f"# {' '.join(printable.split())}".rstrip()
