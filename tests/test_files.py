from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.files import ASIDE, remove_leftovers, sha256_bytes, sha256_file, write_atomic

DO = "nothing was changed, free space or choose another place and run again."


def test_bytes_text_and_functions_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"\x00caf\xc3\xa9", "\x00café", lambda aside: aside.write_bytes(b"\x00caf\xc3\xa9")):
        write_atomic(path, content, "the file")
        assert path.read_bytes() == b"\x00caf\xc3\xa9"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert [entry.name for entry in path.parent.iterdir()] == ["file"]
        path.unlink()


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    with monkeypatch.context() as patch, pytest.raises(EdgeLatheError) as caught:
        patch.setattr(os, operation, fail)
        write_atomic(path, "new", "the file")
    assert str(caught.value) == f"Cannot write the file {path}: No space left on device; {DO}"
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "old")]


def test_an_error_of_the_writer_leaves_the_old_file(tmp_path: Path) -> None:
    def write(aside: Path) -> None:
        aside.write_text("half")
        raise ValueError("mine")

    (tmp_path / "file").write_text("old")
    with pytest.raises(ValueError, match="mine"):
        write_atomic(tmp_path / "file", write, "the file")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "old")]


def test_a_full_disk_leaves_the_old_file(full_disk: Callable[[int], Any]) -> None:
    disk = full_disk(100_000)
    path = disk.folder / "file"
    path.write_text("old")
    with pytest.raises(EdgeLatheError) as caught:
        write_atomic(path, b"x" * 200_000, "the file")
    assert str(caught.value) == f"Cannot write the file {path}: {disk.why}; {DO}"
    assert [(entry.name, entry.read_text()) for entry in disk.folder.iterdir()] == [("file", "old")]


def test_only_what_was_left_aside_is_removed(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    kept = [tmp_path / ".hidden", inner / f"mine{ASIDE}"]
    for path in (*kept, tmp_path / f".x{ASIDE}", inner / f".model.onnx.ab12{ASIDE}"):
        path.write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "file") == sha256_bytes(b"abc") == wanted
