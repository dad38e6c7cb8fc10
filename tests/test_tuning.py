from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import edgelathe
import numpy as np
import pytest
from edgelathe import tuning
from edgelathe.bench.accuracy import predict
from edgelathe.bench.latency import measure_latency
from edgelathe.compress.quantize.search.search import SCHEMES
from edgelathe.compress.quantize.search.sensitivity import read_keep_float
from edgelathe.data import Dataset, load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.export.metadata import read_properties
from edgelathe.tuning import LEAST_JUDGED, node_times, split_training

DENSE = "4-export/float-dense.onnx"
FEW = ("--data", "digits", "--images", 64, "--judged", 100)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is a made-up figure, for measuring it starts processes; one test below measures."""
    made_up = {"int8": SimpleNamespace(ratio=0.5)}
    monkeypatch.setattr(tuning, "measure_latency", lambda *words, **keys: made_up)
    monkeypatch.setattr(tuning, "PROFILED_RUNS", 3)


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every int8 file gets everything wrong."""

    def wrong(path: Path, *words: Any, **keys: Any) -> np.ndarray:
        right = predict(path, *words, **keys)
        return right + 1 if path.name == "candidate.onnx" else right

    monkeypatch.setattr(tuning, "predict", wrong)


@pytest.fixture
def model(toy_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(toy_run / DENSE, tmp_path / "toy.onnx"))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", limit_train=400)


@pytest.mark.parametrize(("judge", "held"), [("labels", True), ("float", False)])
def test_the_float_file_may_judge_instead_of_labels(
    judge: str, held: bool, model: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five answers change from wrong to right: nothing is lost, and five answers are not those of the float file."""
    labels = np.concatenate([split_training(data, 64, 0, judged=100)[1].y])
    changed = {"candidate.onnx": labels, model.name: np.concatenate([labels[:5] + 1, labels[5:]])}
    monkeypatch.setattr(tuning, "predict", lambda path, *words, **keys: changed[path.name])
    monkeypatch.setattr(tuning, "SCHEMES", ())
    result, _ = edgelathe.tune(
        model, data, images=64, judged=100, max_accuracy_drop=0.0, judge=judge, minutes=0.001, seed=0
    )
    assert result.held is held
    assert result.best.drop == (-5.0 if held else 5.0)


def test_another_judge_is_refused(model: Path, data: Dataset) -> None:
    with pytest.raises(EdgeLatheError, match='judge "nobody"'):
        edgelathe.tune(model, data, images=64, judged=100, judge="nobody")


def test_images_to_judge_on_are_none_that_ranges_come_from(data: Dataset) -> None:
    calibration, judged = split_training(data, 64, 3, judged=100)
    assert (len(calibration), len(judged)) == (64, 100)
    assert np.array_equal(calibration.x, data.calibration(64, 3).x)
    pixels = {image.tobytes() for image in calibration.x}
    assert not pixels & {image.tobytes() for image in judged.x}


def test_too_few_others_are_refused(data: Dataset) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        split_training(data, 400 - LEAST_JUDGED + 1, 0)
    assert str(caught.value) == (
        'Cannot judge int8 files on the data set "digits": of its 400 training images 371 are for calibration, and at'
        " least 30 others are needed to judge on; use fewer images for calibration, or hold out more."
    )


def test_operators_are_timed_by_name(model: Path) -> None:
    times = node_times(model)
    assert len(times) > 5
    assert all(time >= 0 for time in times.values())


def test_the_file_its_record_and_its_state(model: Path, data: Dataset) -> None:
    lines: list[str] = []
    result, path = edgelathe.tune(model, data, max_accuracy_drop=50.0, images=64, judged=100, say=lines.append)
    assert path == model.with_name("toy.int8.onnx")
    assert result.held
    assert len(result.trials) == len(SCHEMES) == len(lines)
    assert all(trial.latency == 0.5 and trial.total == 100 for trial in result.trials)
    assert json.loads(path.with_suffix(".search.json").read_text())["best"] == json.loads(
        json.dumps(result.best.as_dict())
    )
    assert "edgelathe.mean" in read_properties(path)
    assert [left.name for left in path.with_suffix(".search").iterdir()] == ["journal.json"]
    preprocess, judged = data.preprocess, split_training(data, 64, 0, 100)[1]
    float_predictions = predict(model, judged.x, preprocess)
    assert int(np.sum(predict(path, judged.x, preprocess) != float_predictions)) == result.best.disagreed
    lines.clear()
    assert edgelathe.tune(model, data, max_accuracy_drop=50.0, images=64, judged=100, say=lines.append)[0] == result
    assert lines == [], "what was measured is not measured again"


@pytest.mark.usefixtures("spoilt")
def test_a_missed_drop_leaves_the_best_file_and_says_so(
    model: Path, command: Callable[..., Any], data: Dataset
) -> None:
    ended = command("tune", model, *FEW, "--max-accuracy-drop", 0.1, "--minutes", 0.15)
    assert ended.code == 1
    text = " ".join(ended.out.split())
    assert "Missed a drop of at most 0.1 points: " in text
    assert "95 % interval" in text
    output = model.with_name("toy.int8.onnx")
    assert predict(output, data.test.x[:10], data.preprocess).shape == (10,)
    listed = json.loads(output.with_suffix(".search.json").read_text())
    assert not listed["held"]
    assert listed["best"]["drop"] == min(trial["drop"] for trial in listed["trials"])
    ranking = output.with_suffix(".sensitivity.json")
    assert set(read_keep_float([str(ranking)])) == set(listed["best"]["keep_float"])


def test_a_drop_that_holds_exits_with_0(model: Path, command: Callable[..., Any]) -> None:
    ended = command("tune", model, *FEW, "--max-accuracy-drop", 50, "--json")
    assert (ended.code, ended.err) == (0, "")
    printed = json.loads(ended.out)
    assert printed["held"]
    assert printed["file"] == str(model.with_name("toy.int8.onnx"))


def test_latency_is_measured_against_the_float_file(
    model: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "measure_latency", measure_latency)
    monkeypatch.setattr(tuning, "LATENCY_SECONDS", 0.1)
    monkeypatch.setattr(tuning, "SCHEMES", ())
    result, _ = edgelathe.tune(model, data, max_accuracy_drop=50.0, images=64, judged=100)
    assert len(result.trials) == 1
    assert result.best.latency is not None
    assert 0.05 < result.best.latency < 5


def test_fewer_bits_for_weights(model: Path, data: Dataset) -> None:
    result, _ = edgelathe.tune(model, data, max_accuracy_drop=100.0, weight_size=0.6, images=64, judged=100)
    assert result.weight_bits is not None
    assert min(result.weight_bits.values()) < 8
    limits = {name: codes.limit for name, codes in result.plan.weights.items()}
    assert limits == {name: 2 ** (bits - 1) - 1 for name, bits in result.weight_bits.items()}


def test_the_float_file_is_never_written_over(model: Path, refused: Callable[..., str]) -> None:
    assert "it is the float model itself" in refused("tune", model, *FEW, "-o", model)
    assert "Cannot quantize without images" in refused("tune", model)


RECIPE = """
[model]
source = "toy.onnx"
[data]
source = "digits"
calibration = 32
limit_test = 60
[[stages]]
do = "quantize"
max_accuracy_drop = 60.0
[bench]
seconds = 0.1
memory = false
"""


def test_a_stage_of_a_recipe_searches(model: Path) -> None:
    recipe = model.with_name("search.toml")
    recipe.write_text(RECIPE)
    said: list[str] = []
    report, folder = edgelathe.run(recipe, runs=model.parent / "runs", say=said.append)
    (stage,) = (stage for stage in report.stages if stage.do == "quantize")
    assert stage.summary.startswith("Held a drop of at most 60 points: ")
    assert stage.facts["held"]
    assert len(stage.facts["trials"]) == len(SCHEMES)  # type: ignore[arg-type]
    assert any("drop" in line and "(holds)" in line for line in said)
    assert (folder / stage.folder / "plan.json").is_file()
    assert not list((folder / stage.folder).rglob("journal.json"))
    said.clear()
    again, _ = edgelathe.run(recipe, runs=model.parent / "runs", say=said.append)
    assert "quantize: already done" in said
    assert again.stages == report.stages


def test_keys_of_a_search_without_a_search_are_refused(model: Path, refused: Callable[..., str]) -> None:
    recipe = model.with_name("idle.toml")
    recipe.write_text(RECIPE.replace("max_accuracy_drop = 60.0", "minutes = 3"))
    assert "stages.0 (quantize) has minutes, which only a search uses; add max_accuracy_drop, or leave it out" in (
        refused("run", recipe)
    )
