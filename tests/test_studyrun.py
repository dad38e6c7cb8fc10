from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import edgelathe
import pytest
from edgelathe.bench.study.records import Made, StudyRecord
from edgelathe.recipe import load_recipe
from edgelathe.studyrecipe import load_study

STUDY = """\
name = "toy"
budgets = [0.5]
matching = ["encoded-size"]
controls = []

[data]
source = "digits"
limit_train = 200
limit_test = 60
calibration = 32

[teacher]
source = "cifar_resnet8"

[train]
epochs = 2
batch = 64
precision = "float32"           # nothing here may depend on a timing
threads = 1

[[students]]
name = "net"
source = "cifar_resnet8"
arguments = { width = 8 }

[distill]
epochs = 1
batch = 64
precision = "float32"
threads = 1

[recover]
epochs = 1
batch = 64
precision = "float32"
threads = 1

[quantize]
correct_bias = "none"

[bench]
seconds = 0.1
memory = false
"""
CHANNELS, WEIGHTS = "net-channels-50-seed0", "net-weights-50-encoded-size-seed0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRecord, Path]:
    """The record and the folder of the study above. Not to be written to."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "toy.toml").write_text(STUDY)
    return edgelathe.study(folder / "toy.toml", runs=folder / "runs")


def files(record: StudyRecord, number_format: str) -> dict[str, Made]:
    return {made.cell.name: made for made in record.made if made.number_format == number_format}


@pytest.mark.slow
def test_budgets_are_matched(finished: tuple[StudyRecord, Path]) -> None:
    record, _ = finished
    made, int8 = files(record, "float"), files(record, "int8")
    assert record.refused == ()
    assert list(made) == ["teacher-seed0", "net-student-seed0", CHANNELS, WEIGHTS]
    assert list(int8) == ["net-student-seed0", CHANNELS, WEIGHTS]
    student, channels, weights = made["net-student-seed0"], made[CHANNELS], made[WEIGHTS]
    assert 0.4 * student.nonzero <= channels.nonzero <= 0.5 * student.nonzero
    assert int8[WEIGHTS].encoded_bytes == pytest.approx(int8[CHANNELS].encoded_bytes, rel=0.01)
    assert weights.nonzero < channels.nonzero  # the places of weights take their share
    for each in record.made:
        assert each.packed_bytes is None or 0 < each.packed_bytes < each.file_bytes
    assert weights.macs == student.macs > 1.5 * channels.macs


@pytest.mark.slow
def test_the_folder_holds_the_record_the_table_and_the_plot(finished: tuple[StudyRecord, Path]) -> None:
    record, folder = finished
    assert StudyRecord.model_validate_json((folder / "study.json").read_bytes()) == record
    assert "4 of 4 networks are done. One seed (0)" in (folder / "study.md").read_text()
    assert (folder / "study.svg").read_text().startswith("<svg")
    assert all((folder / made.file).stat().st_size == made.file_bytes for made in record.made)
    latency = files(record, "float")[CHANNELS].latency
    assert latency is not None and latency.low <= latency.ratio <= latency.high


@pytest.mark.slow
def test_cells_are_what_their_recipes_give_by_hand_and_a_study_continues(finished: tuple[StudyRecord, Path]) -> None:
    record, folder = finished
    said: list[str] = []
    again, _ = edgelathe.study(folder.parent.parent / "toy.toml", runs=folder.parent, say=said.append)
    assert again == record
    assert f"3 of 4 networks done; next is {WEIGHTS}" in said
    stages = [line.strip() for line in said if line.strip().split(":")[0] in ("train", "distill", "sparsify", "bench")]
    assert stages and all(line.endswith(": already done") for line in stages)
    said.clear()
    recipe = load_recipe(folder / "recipes" / f"{WEIGHTS}.toml")
    edgelathe.run(recipe, runs=folder, say=said.append)
    assert [line for line in said if line.endswith(": already done")] == [
        f"{stage}: already done" for stage in ("sparsify", "distill", "export", "quantize", "bench")
    ]


@pytest.mark.slow
def test_cuts_that_cannot_be_made_are_recorded_with_their_reason(
    finished: tuple[StudyRecord, Path], command: Callable[..., object]
) -> None:
    _, folder = finished
    study = folder.parent.parent / "toy.toml"
    ended = command("study", study, "--runs", folder.parent, "--set", "budgets=[0.001]", "--json")
    record = json.loads(ended.out)  # type: ignore[attr-defined]
    reasons = {refused["cell"]["kind"]: refused["reason"] for refused in record["refused"]}
    assert set(reasons) == {"channels", "weights"}
    assert reasons["weights"].startswith("Cannot match net-channels-0.1-seed0, because it could not be made itself")
    assert len(record["made"]) == 3


def test_a_study_given_as_such_takes_no_overrides(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(STUDY)
    with pytest.raises(TypeError, match="model_copy"):
        edgelathe.study(load_study(tmp_path / "toy.toml"), overrides=["budgets=[0.1]"])
