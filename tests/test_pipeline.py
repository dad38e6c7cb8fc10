from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgelathe
import numpy as np
import pytest
import torch
from edgelathe.bench.records import Report
from edgelathe.bench.report import read_report
from edgelathe.compress.prune.macs import count_macs
from edgelathe.networks import Network
from edgelathe.recipe import load_recipe
from edgelathe.recipe_stages import Distill
from edgelathe.stages import STAGES as NETWORK_STAGES
from edgelathe.stages.context import Context, Outcome
from edgelathe.stages.training import run_distill
from safetensors.torch import load_file

STAGES = ("1-train", "2-prune-channels", "3-distill", "4-export", "5-quantize", "6-bench")
Run = Callable[..., tuple[list[str], Report]]


@pytest.fixture
def workplace(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the folder that holds toy.toml and its finished run."""
    return shutil.copytree(toy_run.parent.parent, tmp_path / "work")


@pytest.fixture
def run(workplace: Path) -> Run:
    """Runs the toy recipe in there again; returns what was said and the report."""

    def again(*overrides: str) -> tuple[list[str], Report]:
        said: list[str] = []
        recipe = load_recipe(workplace / "toy.toml", overrides)
        return said, edgelathe.run(recipe, runs=workplace / "runs", say=said.append)[0]

    return again


STAGE_NAMES = ("train", "prune-channels", "distill", "export", "quantize", "bench")


def done_again(said: list[str]) -> list[str]:
    """The stages that were not found finished."""
    assert sum(line.partition(":")[0] in STAGE_NAMES for line in said) >= 1
    return [line for line in said if line in STAGE_NAMES]


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.parent != folder}


# --- one run ------------------------------------------------------------------------------------------------


def test_a_run_holds_one_whole_folder_per_stage_and_the_report(toy_run: Path) -> None:
    assert sorted(path.name for path in toy_run.iterdir()) == [
        ".lock", *STAGES, "report.html", "report.json", "report.md",
    ]  # fmt: skip
    inside = {str(path.relative_to(toy_run)) for path in toy_run.rglob("*") if path.is_file()}
    assert {f"{stage}/{name}" for stage in STAGES for name in ("key.json", "record.json")} <= inside
    assert {path for path in inside if path.endswith((".onnx", ".safetensors", "plan.json", ".npz"))} == {
        "1-train/network/model.safetensors",
        "2-prune-channels/network/model.safetensors",
        "2-prune-channels/plan.json",
        "3-distill/network/model.safetensors",
        "4-export/float-dense.onnx",
        "4-export/float-dense.vectors.npz",
        "4-export/float-pruned.onnx",
        "4-export/float-pruned.vectors.npz",
        "5-quantize/int8-pruned.onnx",
        "5-quantize/plan.json",
    }


def test_the_report_tells_the_whole_road(toy_run: Path) -> None:
    report = read_report(toy_run)
    assert (report.name, report.reference) == ("toy", "float dense")
    assert [stage.folder for stage in report.stages] == list(STAGES)
    train, prune, distill, export, quantize, bench = report.stages
    assert ([epoch.epoch for epoch in train.epochs], len(distill.epochs)) == ([1, 2, 3, 4], 1)
    assert train.settings["lr"] == 0.1
    assert {width.layer for width in prune.widths if width.after < width.before}
    assert export.summary.startswith("ONNX equals PyTorch within ")
    assert "convolutions" in quantize.summary
    assert bench.summary == "Measured 3 files"
    dense, pruned, int8 = report.candidates
    assert [candidate.file for candidate in report.candidates] == [
        "4-export/float-dense.onnx", "4-export/float-pruned.onnx", "5-quantize/int8-pruned.onnx",
    ]  # fmt: skip
    assert pruned.facts.macs <= 0.5 * dense.facts.macs
    assert int8.facts.file_bytes <= 0.5 * pruned.facts.file_bytes
    assert int8.facts.int8_macs == int8.facts.macs
    assert {node.outcome for node in int8.nodes} == {"int8"}
    assert dense.accuracy is not None
    assert dense.accuracy.total == 120
    assert dense.accuracy.top1 > 0.3
    assert report.gate is not None
    assert (report.gate.candidate, report.gate.exit_code) == ("int8 pruned", 0)
    assert report.data == {
        "name": "digits",
        "classes": 10,
        "train": 640,
        "test": 120,
        "shape": [1, 8, 8],
        "fingerprint": report.data["fingerprint"],
    }


def test_nothing_in_the_files_names_the_machine(toy_run: Path) -> None:
    folder = str(toy_run.parent.parent).encode()
    for path in toy_run.rglob("*"):
        if path.is_file():
            assert folder not in path.read_bytes(), path


# --- again --------------------------------------------------------------------------------------------------


def test_running_again_redoes_nothing_and_gives_the_same_report(run: Run, workplace: Path) -> None:
    folder = workplace / "runs" / "toy"
    before, report = times(folder), (folder / "report.json").read_bytes()
    said, _ = run()
    assert done_again(said) == []
    assert times(folder) == before
    assert (folder / "report.json").read_bytes() == report


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("gate.size=<= 1 kB", []),
        ("bench.seconds=0.05", ["bench"]),
        ("stages.3.method=minmax", ["quantize", "bench"]),
    ],
)
def test_a_changed_key_keeps_the_stages_before_it(run: Run, workplace: Path, override: str, redone: list[str]) -> None:
    folder = workplace / "runs" / "toy"
    before = times(folder)
    said, report = run(override)
    assert done_again(said) == redone
    kept = STAGES[: len(STAGES) - len(redone)]
    after = times(folder)
    for path, time_ns in before.items():
        if Path(path).relative_to(folder).parts[0] in kept:
            assert after[path] == time_ns
    assert [stage.folder for stage in report.stages] == list(STAGES)


def test_the_name_and_place_of_a_recipe_change_nothing(run: Run, workplace: Path) -> None:
    (workplace / "deeper").mkdir()
    shutil.move(workplace / "toy.toml", workplace / "deeper" / "other.toml")
    said: list[str] = []
    edgelathe.run(workplace / "deeper" / "other.toml", runs=workplace / "runs", say=said.append)
    assert done_again(said) == []


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("5-quantize/int8-pruned.onnx", "truncated"),
        ("6-bench/measured.json", "gone"),
    ],
)
def test_a_damaged_artifact_is_made_again(run: Run, workplace: Path, file: str, harm: str) -> None:
    path = workplace / "runs" / "toy" / file
    good = path.read_bytes()
    path.unlink() if harm == "gone" else path.write_bytes(good[:-9])
    said, _ = run()
    assert done_again(said) == [file.split("-", 1)[1].split("/")[0]]
    if file.endswith(".onnx"):
        assert path.read_bytes() == good


# --- other roads --------------------------------------------------------------------------------------------


def test_several_schemes_are_candidates_side_by_side(run: Run) -> None:
    quantize = '{do = "quantize", per_channel = %s}'
    stages = [quantize % "true", quantize % "false"]
    said, report = run("model.source=cifar_resnet8", f"stages=[{', '.join(stages)}]", "gate={}")
    assert done_again(said) == ["export", "quantize", "quantize", "bench"]
    assert [candidate.name for candidate in report.candidates] == ["float", "int8 1", "int8 2"]
    assert report.gate is None


def test_distilling_from_another_teacher_without_pruning(run: Run, toy_recipe: str, workplace: Path) -> None:
    text = toy_recipe.replace('[[stages]]\ndo = "prune-channels"\n', "")
    (workplace / "toy.toml").write_text(text)
    said, report = run('teacher={source = "cifar_resnet8", arguments = {width = 8}}')
    assert done_again(said) == ["distill", "export", "quantize", "bench"]
    assert [candidate.name for candidate in report.candidates] == ["float dense", "float distilled", "int8 distilled"]


def test_what_a_network_without_weights_learns_first_makes_the_dense_one(
    run: Run, toy_recipe: str, workplace: Path
) -> None:
    head, _, rest = toy_recipe.partition('[[stages]]\ndo = "train"')
    distill = rest[rest.index('[[stages]]\ndo = "distill"') : rest.index('[[stages]]\ndo = "quantize"')]
    teacher = '[teacher]\nsource = "cifar_resnet8"\narguments = {width = 8}\n'
    (workplace / "toy.toml").write_text(
        head.replace('"toy"', '"alone"') + distill + teacher + "[bench]\nseconds = 0.1\n"
    )
    _, report = run("bench.memory=false")
    assert [candidate.name for candidate in report.candidates] == ["float"]


def test_the_network_before_pruning_is_the_teacher_unless_another_is_named(
    run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[dict[str, Any], int]] = []

    def spy(stage: Distill, network: Network, context: Context) -> Outcome:
        asked.append((context.teacher.model.state_dict(), sum(p.numel() for p in network.model.parameters())))
        return run_distill(stage, network, context)

    monkeypatch.setitem(NETWORK_STAGES, Distill, spy)
    run("stages.2.alpha=0.8")
    ((teacher, student_parameters),) = asked
    trained = load_file(workplace / "runs" / "toy" / "1-train" / "network" / "model.safetensors")
    assert trained.keys() == teacher.keys()
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in trained.items())
    assert student_parameters < sum(tensor.numel() for tensor in teacher.values())


QAT = """
[[stages]]
do = "qat"
epochs = 2
batch = 64
threads = 1
"""


def test_quantization_aware_training_stands_beside_quantize(run: Run, toy_recipe: str, workplace: Path) -> None:
    quantize = '[[stages]]\ndo = "quantize"\n'
    assert quantize in toy_recipe
    (workplace / "toy.toml").write_text(toy_recipe.replace(quantize, quantize + QAT))
    said, report = run()
    assert [line for line in said if line in (*STAGE_NAMES, "qat")] == ["qat", "bench"]  # not `quantize` again
    assert [candidate.name for candidate in report.candidates] == [
        "float dense", "float pruned", "int8 pruned", "int8 pruned qat",
    ]  # fmt: skip
    ptq, trained = report.candidates[2:]
    assert [node.outcome for node in trained.nodes] == [node.outcome for node in ptq.nodes]
    record = report.stages[5]
    assert (record.do, len(record.epochs)) == ("qat", 2)
    assert trained.accuracy is not None
    assert trained.accuracy.correct == pytest.approx(120 * (record.epochs[-1].test_accuracy or 0), abs=1)
    assert done_again(run()[0]) == []


def test_quantization_aware_training_of_an_onnx_file_with_a_teacher(run: Run, toy_recipe: str, workplace: Path) -> None:
    shutil.copy(workplace / "runs" / "toy" / "4-export" / "float-pruned.onnx", workplace / "net.onnx")
    head, _, _ = toy_recipe.partition("[[stages]]")
    teacher = '[teacher]\nsource = "cifar_resnet8"\n'
    text = head.replace('"cifar_resnet8"', '"net.onnx"') + teacher + QAT + "[bench]\nseconds = 0.1\nmemory = false\n"
    (workplace / "toy.toml").write_text(text)
    said, report = run()
    assert [candidate.name for candidate in report.candidates] == ["float", "int8 qat"]
    assert report.stages[0].do == "qat"
    assert done_again(run()[0]) == []
    again, _ = run("teacher.arguments={width = 8}")
    assert "qat" in again, "another teacher makes another training"
    assert "qat" in said


def test_pruning_in_steps_with_recovery_between(
    run: Run, toy_recipe: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = []

    def noted(stage: Distill, network: Network, context: Context) -> Outcome:
        teachers.append(count_macs(context.teacher.model, network.example(context.data))[0])
        return run_distill(stage, network, context)

    monkeypatch.setitem(NETWORK_STAGES, Distill, noted)
    (workplace / "toy.toml").write_text(toy_recipe.replace('"prune-channels"', '"prune-channels"\nsteps = 2'))
    said, report = run()
    again = ["prune-channels", "distill", "prune-channels", "distill", "export", "quantize", "bench"]
    assert done_again(said) == again, "the training before stays"
    names = [f"{number}-{do}" for number, do in enumerate(["train", *again], start=1)]
    assert [stage.folder for stage in report.stages] == names
    first, second = report.stages[1], report.stages[3]
    assert first.summary.startswith("Step 1 of 2: removed channels by fpgm: ")
    assert second.summary.startswith("Step 2 of 2: removed channels by fpgm: ")
    whole = first.facts["macs_before"]
    assert second.facts["macs_before"] == first.facts["macs_after"]
    assert 0.65 * whole < first.facts["macs_after"] <= 0.5**0.5 * whole
    assert 0.45 * whole < second.facts["macs_after"] <= 0.5 * whole
    dense, pruned, _ = report.candidates
    assert (dense.facts.macs, pruned.facts.macs) == (whole, second.facts["macs_after"])
    assert teachers == [whole, whole], "the network before the first step"
    shutil.rmtree(workplace / "runs" / "toy" / "5-distill")
    assert done_again(run()[0]) == ["distill"], "the same weights come again, and so the same files"


MINE = """
import torch
from torch import nn
from layers import block

class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body = nn.Sequential(block(in_channels, 8), block(8, 8))
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def build(num_classes, in_channels):
    return Net(num_classes, in_channels)
"""
LAYERS = """
from torch import nn

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
"""
DATA = """
import numpy as np
from sklearn.datasets import load_digits

def load(root):
    assert (root / "here").exists()
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)
    return x[:600], digits.target[:600], x[600:700], digits.target[600:700]
"""
OWN_RECIPE = """
[model]
source = "mine.py:build"
[data]
source = "data.py:load"
root = "photos"
calibration = 32
[[stages]]
do = "train"
epochs = 1
batch = 64
precision = "float32"
threads = 1
[[stages]]
do = "prune-channels"
[[stages]]
do = "quantize"
[bench]
seconds = 0.1
memory = false
"""


def test_a_users_own_network_and_data_in_a_folder_called_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "here").write_text("")
    for name, text in (("mine.py", MINE), ("layers.py", LAYERS), ("data.py", DATA), ("net.toml", OWN_RECIPE)):
        (folder / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    report, where = edgelathe.run("models/net.toml", say=said.append)
    assert where == Path("runs/net")
    assert [candidate.name for candidate in report.candidates] == ["float dense", "float pruned", "int8 pruned"]
    assert report.candidates[1].facts.macs <= 0.5 * report.candidates[0].facts.macs
    said.clear()
    edgelathe.run(tmp_path / "models" / "net.toml", say=said.append)
    assert done_again(said) == [], "from another place it is the same recipe"
    assert not list(folder.rglob("__pycache__"))


def test_two_runs_of_one_name_keep_out_of_each_others_way(workplace: Path, refused: Callable[..., str]) -> None:
    from edgelathe.runfolder import locked

    folder = workplace / "runs" / "toy"
    with locked(folder):
        assert refused("run", workplace / "toy.toml", "--runs", workplace / "runs") == (
            f"Cannot run in {folder}: another process is running there; wait for it or give the recipe another name."
        )


# --- kills --------------------------------------------------------------------------------------------------


def artifacts(folder: Path) -> dict[str, bytes]:
    kinds = ("*.onnx", "*.safetensors", "plan.json", "*.npz", "structure.json")
    return {str(path.relative_to(folder)): path.read_bytes() for kind in kinds for path in folder.rglob(kind)}


MOMENTS = ("1-train.partial/training/checkpoint.safetensors", *(f"{stage}.partial" for stage in STAGES))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_files(
    toy_run: Path, toy_recipe: str, tmp_path: Path
) -> None:
    (tmp_path / "toy.toml").write_text(toy_recipe)
    run = tmp_path / "runs" / "toy"
    argv = [sys.executable, "-c", "from edgelathe.cli import main; main()", "run", "toy.toml", "--quiet"]
    chance = random.Random(19)
    # Each is a short while after a file has appeared, so that it is the same one on a slow machine.
    for moment in sorted(chance.sample(MOMENTS, 3)):
        wait, stage = chance.uniform(0, 0.4), moment.partition(".")[0]
        with subprocess.Popen(argv, cwd=tmp_path) as process:
            while not (run / moment).exists() and not (run / stage).exists():
                assert process.poll() is None, f"the run ended before {moment}"
                time.sleep(0.005)
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, f"the run was over before it was killed in {stage}"
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert artifacts(run) == artifacts(toy_run)
    assert {path.name for path in run.iterdir()} == {path.name for path in toy_run.iterdir()}
    left = [str(path) for path in run.rglob("*") if path.name.endswith(".aside") or ".partial" in str(path)]
    assert left == []
    facts = {file["name"]: file["facts"] for file in json.loads((run / "report.json").read_text())["candidates"]}
    assert facts == {
        candidate.name: candidate.facts.model_dump(mode="json") for candidate in read_report(toy_run).candidates
    }


# --- surgery and stored weights -----------------------------------------------------------------------------

SMALL = """
from edgelathe.models.efficientnet import MBConv
from edgelathe.models.layers import conv_norm
from torch import nn

def build(num_classes, in_channels):
    return nn.Sequential(
        conv_norm(in_channels, 8, 3, activation=nn.SiLU),
        MBConv(8, 16, 2, 4, 3, 0.0),
        MBConv(16, 16, 1, 4, 3, 0.0),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )
"""
SURGERY = """
name = "surgery"
[model]
source = "small.py:build"
[data]
source = "digits"
limit_train = 256
limit_test = 60
calibration = 32
[[stages]]
do = "train"
epochs = 1
batch = 64
lr = 0.02
precision = "float32"
threads = 1
[[stages]]
do = "replace-activations"
[[stages]]
do = "drop-squeeze-excite"
[[stages]]
do = "distill"
epochs = 1
batch = 64
lr = 0.02
precision = "float32"
threads = 1
[[stages]]
do = "quantize"
[[stages]]
do = "store-weights"
[[stages]]
do = "store-weights"
format = "float16"
[bench]
seconds = 0.1
memory = false
"""


def test_surgery_is_planned_carried_out_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "surgery.toml").write_text(SURGERY)
    (tmp_path / "small.py").write_text(SMALL)
    steps = {step.what: step for step in edgelathe.plan(tmp_path / "surgery.toml").steps}
    report, folder = edgelathe.run(tmp_path / "surgery.toml", runs=tmp_path)
    dense, simplified, _, weights, half = report.candidates
    assert [candidate.name for candidate in report.candidates] == [
        "float dense",
        "float simplified",
        "int8 simplified",
        "int8 weights simplified",
        "float16 weights simplified",
    ]
    assert dense.facts.ops["Sigmoid"] == 5 + 4
    assert simplified.facts.ops["Clip"] == 5
    assert steps["replace-activations by relu6"].macs == dense.facts.macs
    assert steps["drop-squeeze-excite"].macs == simplified.facts.macs < dense.facts.macs
    assert steps["store-weights as float16"].file_bytes == pytest.approx(half.facts.file_bytes, rel=0.2)
    for stored in (weights, half):
        assert stored.facts.file_bytes < simplified.facts.file_bytes
        assert (stored.facts.macs, stored.facts.int8_macs) == (simplified.facts.macs, 0)
        assert {node.outcome for node in stored.nodes} == {"float"}
    assert half.agreement == simplified.agreement
    summaries = {stage.do: stage.summary for stage in report.stages}
    assert summaries["replace-activations"] == "Replaced 7 activations by relu6"
    assert summaries["drop-squeeze-excite"] == (
        "Dropped 2 squeeze-and-excitation blocks, the mean gate of 2 folded into weights"
    )
    assert "computed in float32, in the time and memory of the float model" in summaries["store-weights"]
    said: list[str] = []
    edgelathe.run(tmp_path / "surgery.toml", runs=tmp_path, say=said.append)
    assert done_again(said) == []
    edits = json.loads((folder / "4-distill" / "network" / "structure.json").read_text())["edits"]
    assert len(edits) == 9


@pytest.mark.slow
def test_efficientnet_is_made_ready_for_int8(tmp_path: Path) -> None:
    own = SURGERY.replace('"small.py:build"', '"cifar_efficientnet_b0"\narguments = { width_mult = 0.25 }')
    (tmp_path / "surgery.toml").write_text(
        own[: own.index('[[stages]]\ndo = "store-weights"')] + "\n[bench]\nseconds = 0.1\n"
    )
    dense, simplified, int8 = edgelathe.run(tmp_path / "surgery.toml", runs=tmp_path)[0].candidates
    assert dense.facts.ops["Sigmoid"] == 65
    assert not {"Sigmoid", "Mul", "HardSigmoid", "HardSwish"} & simplified.facts.ops.keys()
    assert not {"Sigmoid", "Mul", "HardSigmoid", "HardSwish"} & int8.facts.ops.keys()
    assert simplified.facts.ops["Clip"] == 33
    assert int8.facts.int8_macs == int8.facts.macs


# --- early exits --------------------------------------------------------------------------------------------


def test_kept_exits_walk_the_whole_road(run: Run, workplace: Path) -> None:
    stage = '{do = "self-distill", epochs = 2, batch = 64, keep_exits = true, precision = "float32", threads = 1}'
    _, report = run(f'stages=[{stage}, {{do = "quantize"}}]', "gate={}", "bench.memory=false")
    folder = workplace / "runs" / "toy"
    assert (folder / "1-self-distill" / "network" / "exits.safetensors").is_file()
    names = ["logits", "exit_layer1", "exit_layer2"]
    assert report.stages[1].facts["float"]["outputs"].keys() == set(names)  # type: ignore[index]
    judged = {one["output"]: one["correct"] for one in report.stages[0].facts["exits"]}  # type: ignore[attr-defined]
    for candidate in report.candidates:
        assert list(candidate.facts.outputs) == names
        assert list(candidate.exits) == names[1:]
        assert all(found.total == 120 and found.low <= found.top1 <= found.high for found in candidate.exits.values())
    float_one, int8 = report.candidates
    assert float_one.accuracy is not None
    assert float_one.accuracy.correct == judged["logits"]
    assert {name: found.correct for name, found in float_one.exits.items()} == {
        "exit_layer1": judged["layer1"],
        "exit_layer2": judged["layer2"],
    }
    assert int8.facts.int8_macs == int8.facts.macs
    with np.load(folder / "2-export" / "float.vectors.npz") as vectors:
        assert sorted(vectors) == ["exit_layer1", "exit_layer2", "inputs", "outputs"]
