"""The folder of a run: one folder per stage, whole or absent, each with the key it was made for.

A stage works in `<stage>.partial` and is renamed when it is done, so that a kill at any moment leaves only
whole stages, and a half-trained one that continues from its last checkpoint.
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

from . import __version__, errors
from .files import sha256_bytes, write_atomic

KEY, RECORD = "key.json", "record.json"


@dataclass(frozen=True)
class StageFolder:
    """Where one stage keeps its artifacts."""

    path: Path
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
        raise errors.unwritable_file("the run", run, reason.strerror or str(reason)) from reason
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as reason:
            raise errors.run_in_use(run) from reason
        yield


def find_stage(run: Path, name: str, key: str) -> StageFolder:
    """The stage's finished folder if it was made for `key`, else its folder to work in.

    What was made for another key is removed; what was half done for this one is kept to be continued.
    """
    done, partial = run / name, run / f"{name}.partial"
    if _key_of(done) == key and (done / RECORD).is_file():
        return StageFolder(done, key, whole=True)
    if _key_of(partial) != key:
        shutil.rmtree(partial, ignore_errors=True)
        write_atomic(partial / KEY, json.dumps({"key": key}), "the stage's key")
    return StageFolder(partial, key, whole=False)


def finish_stage(folder: StageFolder, record: Mapping[str, Any]) -> StageFolder:
    """Write the stage's record and let its folder take its final name."""
    write_atomic(folder.path / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n", "the stage's record")
    done = folder.path.with_suffix("") if folder.path.suffix == ".partial" else folder.path
    try:
        shutil.rmtree(done, ignore_errors=True)
        folder.path.replace(done)
    except OSError as reason:
        raise errors.unwritable_file("the stage", done, reason.strerror or str(reason)) from reason
    return StageFolder(done, folder.key, whole=True)


def _key_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / KEY).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        return None
