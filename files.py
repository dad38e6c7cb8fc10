"""Whole files or none: everything EdgeLathe writes is written aside and renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import errors

ASIDE = ".aside"
"""How the names of files end that are being written."""


def write_atomic(path: Path, content: bytes | str | Callable[[Path], None], what: str) -> None:
    """Write `content` to `path` so that a kill or a full disk leaves either the old file or the new one.

    `content` is bytes, text (UTF-8), or a function that writes the file whose path it is given.
    Raises EdgeLatheError when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=ASIDE, dir=path.parent)
        os.close(handle)
    except OSError as reason:
        raise errors.inputs.unwritable_file(what, path, reason.strerror or str(reason)) from reason
    aside = Path(name)
    try:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
        _flush(aside)
        aside.chmod(0o644)
        aside.replace(path)
    except OSError as reason:
        raise errors.inputs.unwritable_file(what, path, reason.strerror or str(reason)) from reason
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half written in `folder` and below; nobody may be writing there."""
    for path in folder.rglob(f".*{ASIDE}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sha256_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
