"""The folder of a run: one folder per stage, whole or absent, each with the key it was made for.

A stage works in `<stage>.partial`. Its record is written last, with the SHA-256 of every file, and then the folder
takes its final name: a kill at any moment leaves whole stages, and at most one that continues where it was. A stage
whose files are not those of its record is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import errors
from .files import remove_leftovers, sha256_bytes, sha256_file, write_atomic
from .version import __version__

KEY, RECORD = "key.json", "record.json"
SCRATCH = "training"
"""Folder in a stage's for what only serves to continue it; gone when the stage is done."""


@dataclass(frozen=True)
class StageFolder:
    """Where one stage keeps its artifacts."""

    path: Path
    name: str
    key: str
    whole: bool
    """Whether the artifacts are there and were made for this key."""

    def record(self) -> dict[str, Any]:
        return json.loads((self.path / RECORD).read_text(encoding="utf-8"))


def stage_key(settings: Mapping[str, Any]) -> str:
    """SHA-256 over everything that a stage's artifacts depend on, and this version of EdgeLathe."""
    text = json.dumps({"edgelathe": __version__, **settings}, sort_keys=True, default=str)
    return sha256_bytes(text.encode())


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep a second process out of the run's folder. Raises EdgeLatheError when one is in it already."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("w")
    except OSError as reason:
        raise errors.inputs.unwritable_file("the run", run, reason.strerror or str(reason)) from reason
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as reason:
            raise errors.runs.run_in_use(run) from reason
        remove_leftovers(run)
        yield


def find_stage(run: Path, name: str, key: str) -> StageFolder:
    """The stage's finished folder if it was made for `key`, else its folder to work in.

    What was half done for this key is kept to be continued; what was made for another stays until it is replaced.
    """
    done, partial = run / name, run / f"{name}.partial"
    if _is_whole(done, key):
        return StageFolder(done, name, key, whole=True)
    if _is_whole(partial, key):
        return _settle(partial, done, key)
    if _key_of(partial) != key:
        shutil.rmtree(partial, ignore_errors=True)
        write_atomic(partial / KEY, json.dumps({"key": key}), "the stage's key")
    return StageFolder(partial, name, key, whole=False)


def finish_stage(folder: StageFolder, record: Mapping[str, Any]) -> StageFolder:
    """Write the stage's record and let its folder take its final name."""
    files = {str(path.relative_to(folder.path)): sha256_file(path) for path in _artifacts(folder.path)}
    text = json.dumps({**record, "files": files}, indent=1, sort_keys=True) + "\n"
    write_atomic(folder.path / RECORD, text, "the stage's record")
    return _settle(folder.path, folder.path.with_name(folder.name), folder.key)


def _artifacts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in (KEY, RECORD, SCRATCH):
            yield path


def _settle(partial: Path, done: Path, key: str) -> StageFolder:
    try:
        shutil.rmtree(partial / SCRATCH, ignore_errors=True)
        shutil.rmtree(done, ignore_errors=True)
        partial.replace(done)
    except OSError as reason:
        raise errors.inputs.unwritable_file("the stage", done, reason.strerror or str(reason)) from reason
    return StageFolder(done, done.name, key, whole=True)


def _is_whole(folder: Path, key: str) -> bool:
    if _key_of(folder) != key:
        return False
    try:
        files = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return all(sha256_file(folder / name) == sha256 for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _key_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / KEY).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
