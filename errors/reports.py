"""Reports, budgets and the gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .base import EdgeLatheError


def bad_budget(metric: str, text: object, why: str, examples: Iterable[str]) -> EdgeLatheError:
    shown = " or ".join(f'{metric} = "{example}"' for example in examples)
    return EdgeLatheError(f"Cannot use the budget {metric} = {text!r}: {why}; write for example {shown}.")


def no_budgets(where: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot judge {where}: it sets no budget; add at least one, for example size = "<= 300 kB".')


def invalid_report(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read the report {path}: {why}; write it again with `edgelathe run`.")


def other_schema(path: Path | str, found: object, known: Sequence[int]) -> EdgeLatheError:
    age = "a newer" if isinstance(found, int) and found > max(known) else "another"
    versions = " and ".join(str(version) for version in known)
    return EdgeLatheError(
        f"Cannot read the report {path}: it has schema version {found!r} of {age} EdgeLathe and this one "
        f"reads versions {versions}; read it with the version that wrote it, or run again."
    )


def changed_candidate(name: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot trust the report on "{name}": its file {path} {why}; run again to measure what is there now.'
    )
