"""Files, choices and settings that cannot be used, whatever they were for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError


def nearest(word: str, valid: Iterable[str]) -> str:
    """Ask for the valid word nearest to `word`, or list all of them when none is near."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"valid are: {', '.join(words)}." if words else "nothing is valid here."


def missing_file(what: str, path: Path | str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: there is no such file; check the path.")


def unreadable_file(what: str, path: Path | str, why: str, do: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: {why}; {do}.")


def unwritable_file(what: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot write {what} {path}: {why}; nothing was changed, free space or choose another place and run again."
    )


def unknown_choice(what: str, value: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'Unknown {what} "{value}": {nearest(value, valid)}')


def bad_setting(name: str, value: object, need: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot measure with {name} = {value}: it must be {need}.")


def impossible_setting(name: str, value: object, valid: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {name} = {value}: it must be {valid}.")
