from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edgelathe import runfolder
from edgelathe.errors import EdgeLatheError
from edgelathe.files import ASIDE, write_atomic
from edgelathe.runfolder import SCRATCH, StageFolder, find_stage, finish_stage, locked, stage_key

OLD, NEW = "1" * 64, "2" * 64


def work(folder: StageFolder, content: str) -> StageFolder:
    """A stage as the pipeline runs it: scratch, artifacts, record."""
    write_atomic(folder.path / SCRATCH / "checkpoint", f"half of {content}", "the checkpoint")
    write_atomic(folder.path / "network" / "weights", content * 9, "the weights")
    write_atomic(folder.path / "plan.json", content, "the plan")
    return finish_stage(folder, {"summary": content})


def run_stage(run: Path, key: str, content: str) -> StageFolder:
    with locked(run):
        folder = find_stage(run, "1-train", key)
        return folder if folder.whole else work(folder, content)


def tree(run: Path) -> dict[str, str]:
    """Every file but the lock, with its text."""
    return {
        str(path.relative_to(run)): path.read_text()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_the_key_is_a_hash_of_settings_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    key = stage_key({"do": "train", "seed": 0})
    assert key == stage_key({"seed": 0, "do": "train"})
    assert len(key) == 64
    assert key != stage_key({"do": "train", "seed": 1})
    monkeypatch.setattr(runfolder, "__version__", "9.9.9")
    assert key != stage_key({"do": "train", "seed": 0})


def test_a_stage_is_worked_on_aside_and_then_whole(tmp_path: Path) -> None:
    folder = find_stage(tmp_path, "1-train", NEW)
    assert (folder.path.name, folder.name, folder.whole) == ("1-train.partial", "1-train", False)
    assert not (tmp_path / "1-train").exists()
    done = work(folder, "new")
    assert (done.path, done.whole, done.record()["summary"]) == (tmp_path / "1-train", True, "new")
    assert sorted(tree(tmp_path)) == [
        "1-train/key.json",
        "1-train/network/weights",
        "1-train/plan.json",
        "1-train/record.json",
    ]
    assert find_stage(tmp_path, "1-train", NEW) == done


def test_the_record_holds_the_hash_of_every_file(tmp_path: Path) -> None:
    files = run_stage(tmp_path, NEW, "new").record()["files"]
    texts = {"network/weights": "new" * 9, "plan.json": "new"}
    assert files == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


@pytest.mark.parametrize("file", ["plan.json", "network/weights", "record.json", "key.json"])
@pytest.mark.parametrize("harm", ["changed", "truncated", "gone"])
def test_a_stage_whose_files_changed_is_made_again(tmp_path: Path, file: str, harm: str) -> None:
    whole = tree(run_stage(tmp_path, NEW, "new").path.parent)
    path = tmp_path / "1-train" / file
    if harm == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text()[:-2] if harm == "truncated" else "[3]")
    assert not find_stage(tmp_path, "1-train", NEW).whole
    run_stage(tmp_path, NEW, "new")
    assert tree(tmp_path) == whole


def test_files_that_others_put_there_do_no_harm(tmp_path: Path) -> None:
    run_stage(tmp_path, NEW, "new")
    (tmp_path / "1-train" / "notes.txt").write_text("mine")
    assert find_stage(tmp_path, "1-train", NEW).whole


def test_another_key_keeps_the_old_stage_until_it_is_replaced(tmp_path: Path) -> None:
    run_stage(tmp_path, OLD, "old")
    folder = find_stage(tmp_path, "1-train", NEW)
    assert not folder.whole
    assert find_stage(tmp_path, "1-train", OLD).whole
    work(folder, "new")
    assert not find_stage(tmp_path, "1-train", OLD).whole


def test_half_done_work_is_continued_for_its_key_only(tmp_path: Path) -> None:
    folder = find_stage(tmp_path, "1-train", OLD)
    write_atomic(folder.path / SCRATCH / "checkpoint", "epoch 3", "the checkpoint")
    assert (find_stage(tmp_path, "1-train", OLD).path / SCRATCH / "checkpoint").read_text() == "epoch 3"
    assert not (find_stage(tmp_path, "1-train", NEW).path / SCRATCH).exists()


# --- kills --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """From call number `moment` on, nothing reaches the disk any more: what a SIGKILL there would leave."""
    calls = itertools.count()

    def mortal(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if next(calls) >= moment:
                raise Killed
            return operation(*arguments, **keywords)

        return call

    for name in ("unlink", "rmdir", "replace", "rename", "mkdir", "fsync", "chmod", "open"):
        monkeypatch.setattr(os, name, mortal(getattr(os, name)))


@pytest.mark.parametrize("again", [(NEW, "new"), (OLD, "old")], ids=["same recipe again", "the recipe before it"])
def test_a_kill_at_any_moment_leaves_what_the_next_run_mends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: tuple[str, str]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no kill can tell the difference
    run_stage(tmp_path / "undisturbed", *again)
    wanted = tree(tmp_path / "undisturbed")
    kills = 0
    for moment in itertools.count():
        run = tmp_path / str(moment)
        run_stage(run, OLD, "old")
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            try:
                run_stage(run, NEW, "new")
            except Killed:
                kills += 1
            else:
                break
        run_stage(run, *again)
        after = {name: text for name, text in tree(run).items() if ".partial" not in name}
        assert after == wanted, f"killed at call {moment}"
        if again[0] == NEW:
            assert tree(run) == wanted
    assert kills > 20


def test_what_a_killed_write_left_aside_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "1-train.partial").mkdir()
    leftovers = [tmp_path / f".report.json.ab12{ASIDE}", tmp_path / "1-train.partial" / f".net.onnx.x{ASIDE}"]
    for path in (*leftovers, tmp_path / ".mine", tmp_path / "report.json"):
        path.write_text("half")
    with locked(tmp_path):
        assert not any(path.exists() for path in leftovers)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".mine", "1-train.partial", "report.json"]


# --- the lock -----------------------------------------------------------------------------------------------


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from edgelathe.runfolder import locked\n"
    script += "with locked(Path(sys.argv[1])): pass"
    with locked(tmp_path):
        done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    sentence = (
        f"Cannot run in {tmp_path}: another process is running there; wait for it or give the recipe another name."
    )
    assert done.stderr.strip().splitlines()[-1] == f"edgelathe.errors.EdgeLatheError: {sentence}"
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(EdgeLatheError) as caught, locked(tmp_path / "runs" / "toy"):
        pass
    assert str(caught.value) == (
        f"Cannot write the run {tmp_path / 'runs' / 'toy'}: Not a directory; nothing was changed, free space or choose"
        " another place and run again."
    )


def test_a_record_is_stable_text(tmp_path: Path) -> None:
    run_stage(tmp_path, NEW, "new")
    text = (tmp_path / "1-train" / "record.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
