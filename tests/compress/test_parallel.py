from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgelathe.compress import parallel
from edgelathe.compress.parallel import ALONE, Team, team
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st

from . import launched


def launch(folder: Path, *cases: str, deadly: bool = False) -> list[int]:
    """Run cases of launched.py in two processes joined by gloo; how they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    if deadly:
        environment["DEADLY"] = "1"
    command = [sys.executable, launched.__file__, str(folder), *cases]
    processes = [
        subprocess.Popen(command, env={**environment, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.DEVNULL)
        for rank in ("0", "1")
    ]
    return [process.wait(timeout=300) for process in processes]


def read(folder: Path, case: str, rank: int) -> dict[str, Any]:
    return json.loads((folder / f"{case}-{rank}.json").read_text())


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    codes = launch(folder, *launched.CASES, deadly=True)
    assert codes == [0, -signal.SIGKILL], "the second process dies in the last case"
    return folder


EXACT = 1e-5
"""Sums over a batch are taken in another order."""
ROUNDED = 2e-2
"""bfloat16 has 8 bits: another last bit of a mean is another rounding of what is normalised by it."""


@pytest.mark.parametrize("case", [case for case in launched.CASES if case not in ("kept", "dying")])
def test_two_processes_have_the_curve_of_one_with_the_whole_batch(together: Path, case: str) -> None:
    tolerance = ROUNDED if case == "bf16" else EXACT
    alone, main, other = launched.result(case), read(together, case, 0), read(together, case, 1)
    for epoch, wanted in zip(main["epochs"], alone["epochs"], strict=True):
        assert epoch["loss"] == pytest.approx(wanted["loss"], rel=tolerance)
        assert epoch["train_accuracy"] == pytest.approx(wanted["train_accuracy"], abs=tolerance)
        assert epoch["test_accuracy"] == wanted["test_accuracy"]
        assert epoch["logged"] == {name: pytest.approx(value, rel=EXACT) for name, value in wanted["logged"].items()}
    np.testing.assert_allclose(main["weights"], alone["weights"], rtol=0, atol=tolerance)
    assert main["sha256"] == other["sha256"], "the processes end with the same network, to the last bit"
    assert main["epochs"][-1]["loss"] < 0.8 * main["epochs"][0]["loss"]


def test_a_killed_process_ends_the_others_and_the_same_command_continues(together: Path) -> None:
    assert read(together, "dying", 0) == {
        "error": "Cannot go on in 2 processes: one of them has ended or cannot be reached; what was finished is kept, "
        "and the same command continues after the last whole epoch."
    }
    assert sorted(path.name for path in (together / "state").iterdir()) == ["checkpoint.safetensors", "choice.json"]
    written = (together / "state" / "checkpoint.safetensors").stat().st_mtime_ns
    assert launch(together, "dying") == [0, 0]
    assert (together / "state" / "checkpoint.safetensors").stat().st_mtime_ns > written
    undisturbed = read(together, "kept", 0)
    for rank in (0, 1):
        continued = read(together, "dying", rank)
        assert continued["sha256"] == undisturbed["sha256"]
        # The speeds of the first two epochs are those of the launch that was killed.
        assert [point["loss"] for point in continued["epochs"]] == [point["loss"] for point in undisturbed["epochs"]]
        assert [point["logged"] for point in continued["epochs"]] == [
            point["logged"] for point in undisturbed["epochs"]
        ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc/self/task")
def test_no_thread_of_gloo_outlives_the_group(tmp_path: Path) -> None:
    assert launch(tmp_path, "plain") == [0, 0]
    for rank in (0, 1):
        names = read(tmp_path, "threads", rank)
        assert names
        assert not [name for name in names if "gloo" in name]


def test_a_checkpoint_of_another_number_of_processes_is_refused(together: Path) -> None:
    with pytest.raises(EdgeLatheError, match="differs in processes; restore"):
        launched.result("dying", together / "state")


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert team() is ALONE
    assert parallel.launched_as() == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert team() is ALONE


@pytest.mark.parametrize("names", [("WORLD_SIZE", "RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")])
def test_what_the_launcher_says_is_known_before_the_others_are_reached(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    for variable in (*parallel._SIZE, *parallel._RANK):
        monkeypatch.delenv(variable, raising=False)
    assert (parallel.launched(), parallel.launched_as()) == (1, 0)
    monkeypatch.setenv(names[0], "3")
    monkeypatch.setenv(names[1], "2")
    assert (parallel.launched(), parallel.launched_as()) == (3, 2)


def test_one_process_where_several_were_asked_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not parallel.launched_alone()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert parallel.launched_alone()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not parallel.launched_alone()


@given(count=st.integers(0, 300), size=st.integers(1, 9))
def test_shares_are_the_whole_and_nearly_equal(count: int, size: int) -> None:
    shares = [list(range(count)[Team(rank, size).own(count)]) for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 2, "compiled": False}, "Cannot divide batches of 2 images among 3 processes: each needs an image"),
        ({"batch": 3, "compiled": True}, "Cannot use compiled = True: it must be false in 3 processes."),
    ],
)
def test_what_several_processes_cannot_do(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        Team(0, 3).check(**settings)
    ALONE.check(batch=1, compiled=True)
    Team(0, 3).check(batch=3, compiled="auto")
