"""Every message a user can see, in one catalogue.

A message is one sentence that says what was asked, on what, why it cannot be done, and what to do about it.
The functions below return the exception instead of raising it, so that a call site reads
``raise errors.missing_file("the recipe", path)`` and type checkers see that the flow ends there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class EdgeLatheError(Exception):
    """Bad input or an impossible request; the command line prints it as one sentence and exits with 2."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Ask for the valid word nearest to `word`, or list all of them when none is near."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"valid are: {', '.join(words)}." if words else "nothing is valid here."


# --- files ---------------------------------------------------------------------------------------------------


def missing_file(what: str, path: Path | str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: there is no such file; check the path.")


def unreadable_file(what: str, path: Path | str, why: str, do: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: {why}; {do}.")


def unwritable_file(what: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot write {what} {path}: {why}; nothing was changed, free space or choose another place and run again."
    )


# --- choices -------------------------------------------------------------------------------------------------


def unknown_choice(what: str, value: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'Unknown {what} "{value}": {nearest(value, valid)}')
