"""A recipe under `accelerate launch`: all processes train, one does the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.pipeline import run
from edgelathe.recipe import load_recipe

from .conftest import Ended

RECIPE = """\
name = "toy"
[model]
source = "cifar_resnet8"
[data]
source = "digits"
limit_train = 64
limit_test = 30
calibration = 32
[[stages]]
do = "train"
epochs = 1
batch = 32
precision = "float32"
threads = 1
[[stages]]
do = "prune-channels"
[[stages]]
do = "qat"
epochs = 1
batch = 32
threads = 1
[bench]
seconds = 0.2
memory = false
"""


def _launch(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    launcher = ["accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"]
    more = ["--num_cpu_threads_per_process", "1", "--main_process_port", "0", "-m", "edgelathe", *words]
    command = [sys.executable, "-m", *launcher, *more]
    return subprocess.run(command, cwd=folder, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True)


def _losses(report: dict[str, Any]) -> list[float]:
    return [epoch["loss"] for stage in report["stages"] for epoch in stage["epochs"]]


@pytest.mark.slow
def test_two_processes_carry_out_a_recipe_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(RECIPE)
    done = _launch(tmp_path, "run", "toy.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train\n") == 1, "one of them speaks"
    together = json.loads((tmp_path / "runs" / "toy" / "report.json").read_text())
    facts = {stage["do"]: stage["facts"] for stage in together["stages"]}
    assert facts["train"]["processes"] == 2
    report, _ = run(load_recipe(tmp_path / "toy.toml"), runs=tmp_path / "alone")
    alone = json.loads(report.model_dump_json())
    assert len(_losses(alone)) == 2
    # Sums are taken in another order; what is pruned and quantized in between is the same all the same.
    assert _losses(together) == pytest.approx(_losses(alone), rel=1e-4)
    assert [stage["do"] for stage in together["stages"]] == [stage["do"] for stage in alone["stages"]]
    assert together["stages"][1]["widths"] == alone["stages"][1]["widths"]


def test_other_verbs_are_refused_in_several_processes(
    command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ended = command("doctor")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "[process 1] Cannot carry out `doctor` in 2 processes: only `run` trains in parallel; give the command without "
        "the launcher.\n"
    )


def test_one_process_where_several_were_asked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    (tmp_path / "toy.toml").write_text(RECIPE.replace('source = "digits"', 'source = "folder"'))
    said: list[str] = []
    with pytest.raises(EdgeLatheError):
        run(load_recipe(tmp_path / "toy.toml"), runs=tmp_path, say=said.append)
    assert said == [
        "Accelerate started one process: with --cpu it needs --mpirun_hostfile to start several, and with --multi_gpu "
        "it starts several on CPUs too"
    ]
