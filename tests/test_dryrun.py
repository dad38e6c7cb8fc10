from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.report import read_report
from edgelathe.dryrun import plan
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe import Recipe, load_recipe


@pytest.fixture
def recipe(tmp_path: Path, toy_recipe: str) -> Callable[..., Recipe]:
    def load(*overrides: str) -> Recipe:
        (tmp_path / "toy.toml").write_text(toy_recipe)
        return load_recipe(tmp_path / "toy.toml", overrides)

    return load


def test_the_plan_predicts_what_the_run_then_makes(recipe: Callable[..., Recipe], toy_run: Path) -> None:
    steps = plan(recipe()).steps
    assert [step.what for step in steps] == [
        "load cifar_resnet8",
        "train for 4 epochs",
        "prune-channels by fpgm to 50% of the MACs",
        "distill for 1 epoch",
        "export to ONNX",
        "quantize for x86-vnni, mse ranges",
    ]
    report = read_report(toy_run)
    dense, pruned, int8 = (candidate.facts for candidate in report.candidates)
    cut = report.stages[1].facts
    assert (steps[1].macs, steps[1].parameters) == (cut["macs_before"], cut["parameters_before"])
    assert (steps[3].macs, steps[3].parameters) == (cut["macs_after"], cut["parameters_after"])
    assert steps[0].macs == dense.macs
    assert (steps[4].macs, steps[4].parameters) == (pruned.macs, pruned.parameters)
    assert (steps[5].macs, steps[5].parameters) == (int8.macs, int8.parameters)
    # The exported file carries metadata, which the prediction leaves out.
    assert steps[4].file_bytes == pytest.approx(pruned.file_bytes, rel=0.01)
    assert steps[5].file_bytes == pytest.approx(int8.file_bytes, rel=0.02)


def test_nothing_is_trained_or_written(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = plan(recipe("stages.0.epochs=1000000", "stages.2.epochs=1000000"))
    assert made.note == (
        "digits: 640 training and 120 test images; inputs: (pixel / 255 - mean) / std with mean 0.3053 and std 0.376."
        " Nothing was trained or written."
    )
    assert made.name == "toy"
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_the_plan_of_an_onnx_file(toy_run: Path, recipe: Callable[..., Recipe]) -> None:
    model = toy_run / "4-export" / "float-pruned.onnx"
    made = plan(recipe(f"model.source={model}", 'stages=[{do = "quantize", method = "minmax"}]'))
    assert [step.what for step in made.steps] == ["load float-pruned.onnx", "quantize for x86-vnni, minmax ranges"]
    assert made.steps[0].file_bytes == model.stat().st_size
    assert made.steps[0].macs == made.steps[1].macs


def test_the_plan_of_quantization_aware_training_is_that_of_its_file(
    toy_run: Path, recipe: Callable[..., Recipe]
) -> None:
    model = toy_run / "4-export" / "float-pruned.onnx"
    stages = '[{do = "quantize"}, {do = "qat", epochs = 3, alpha = 0.0}]'
    made = plan(recipe(f"model.source={model}", f"stages={stages}"))
    assert [step.what for step in made.steps[1:]] == ["quantize for x86-vnni, mse ranges", "qat for x86-vnni, 3 epochs"]
    assert made.steps[1].file_bytes == made.steps[2].file_bytes


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("gate.sise=<= 1 kB", 'Unknown gate metric "sise": did you mean "size"?'),
        ('bench.runtimes=["tflite"]', 'Unknown runtime "tflite": valid are: onnxruntime.'),
        ("bench.threads=[1, 4096]", "Cannot measure with 4096 threads on"),
        ("data.source=digit", 'Unknown data source "digit": did you mean "digits"?'),
        ("model.source=cifar_resnet9", 'Unknown network "cifar_resnet9": did you mean "cifar_resnet8"?'),
        ("model.source=none.onnx", "The recipe "),
        ("stages.1.keep_macs=0", "Cannot use keep_macs = 0.0: it must be above 0 and at most 1."),
        ("export.opset=3", "Cannot use opset = 3: it must be from 18 to 23."),
        ('stages.3.keep_float=["nada"]', 'No node or tensor of the model is named "nada"'),
    ],
)
def test_it_refuses_what_a_run_would_refuse(recipe: Callable[..., Recipe], override: str, sentence: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        plan(recipe(override))
    assert str(caught.value).startswith(sentence)


ONLY_TEST = """
import numpy as np

def load():
    return None, None, np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 10
"""


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        (
            'do = "quantize"',
            "Cannot calibrate on load: it has no training images, and test images must not be calibrated on; "
            "set holdout to put some of them apart.",
        ),
        ('do = "train", epochs = 1', "Cannot train on load: it has no training images; give some."),
        ('do = "distill", epochs = 1', "Cannot distill on load: it has no training images; give some."),
    ],
)
def test_it_refuses_stages_that_need_training_images(
    recipe: Callable[..., Recipe], tmp_path: Path, stage: str, sentence: str
) -> None:
    (tmp_path / "only_test.py").write_text(ONLY_TEST)
    with pytest.raises(EdgeLatheError) as caught:
        plan(recipe(f"data.source={tmp_path}/only_test.py:load", f"stages=[{{{stage}}}]"))
    assert str(caught.value) == sentence


def test_kept_exits_are_part_of_the_predicted_file(recipe: Callable[..., Recipe]) -> None:
    loaded, distilled, file = plan(recipe('stages=[{do = "self-distill", epochs = 9, keep_exits = true}]')).steps
    assert distilled.what == "self-distill for 9 epochs"
    assert (distilled.parameters, distilled.macs) == (loaded.parameters, loaded.macs)
    assert loaded.macs is not None and file.macs is not None
    assert loaded.parameters is not None and file.parameters is not None
    assert file.macs > loaded.macs
    assert file.parameters > loaded.parameters


def test_exits_that_cannot_be_are_refused_before_training(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(EdgeLatheError, match='behind "layer9"'):
        plan(recipe('stages=[{do = "self-distill", epochs = 9, exits = ["layer9"]}]'))
