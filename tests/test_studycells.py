from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from edgelathe.bench.study.records import Cell
from edgelathe.data import Preprocess
from edgelathe.recipe import ModelSection, Recipe, load_recipe
from edgelathe.recipe_networks import TeacherSection
from edgelathe.recipe_stages import Distill, PruneChannels, Sparsify, Train
from edgelathe.studycells import (
    cells,
    channels_cell,
    pruned_recipe,
    recipe_text,
    student_recipe,
    teacher_cell,
    teacher_recipe,
    trained_as,
)
from edgelathe.studyrecipe import Study
from hypothesis import given
from hypothesis import strategies as st

OWN = {"source": "cifar_resnet20", "weights": "own.pth"}


def make(**changes: Any) -> Study:
    document: dict[str, Any] = {
        "name": "toy",
        "budgets": [0.5],
        "students": [{"name": "a", "source": "cifar_resnet8"}],
        "teacher": {"source": "cifar_resnet20"},
        "train": {"epochs": 2},
        "distill": {"epochs": 3},
        "recover": {"epochs": 1},
    }
    return Study.model_validate(document | changes)


def names(study: Study) -> list[str]:
    return [cell.name for cell in cells(study)]


def test_the_cells_of_one_student() -> None:
    assert names(make()) == [
        "teacher-seed0",
        "a-student-seed0",
        "a-channels-50-seed0",
        "a-weights-50-parameters-seed0",
        "a-weights-50-encoded-size-seed0",
        "a-random-channels-50-seed0",
    ]


def test_large_budgets_come_first_and_controls_may_be_left_out() -> None:
    study = make(budgets=[0.1, 0.5], kinds=["channels"], matching=["parameters"], controls=["unpruned"])
    assert names(study) == [
        "teacher-seed0", "a-student-seed0", "a-unpruned-seed0", "a-channels-50-seed0", "a-channels-10-seed0",
    ]  # fmt: skip


def test_a_student_may_have_a_teacher_of_its_own() -> None:
    students = [{"name": "a", "source": "cifar_resnet8"}, {"name": "b", "source": "cifar_resnet8", "teacher": OWN}]
    study = make(students=students, kinds=["channels"], matching=["parameters"], controls=[])
    assert names(study) == [
        "teacher-seed0", "a-student-seed0", "a-channels-50-seed0",
        "b-teacher-seed0", "b-student-seed0", "b-channels-50-seed0",
    ]  # fmt: skip
    assert [teacher_cell(student, 1).name for student in study.students] == ["teacher-seed1", "b-teacher-seed1"]
    assert names(make(students=students[1:], teacher=None, train=None))[0] == "b-teacher-seed0"


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    budgets=st.lists(st.integers(1, 99).map(lambda percent: percent / 100), min_size=1, max_size=3, unique=True),
    students=st.integers(1, 3),
    matching=st.lists(st.sampled_from(["parameters", "encoded-size"]), min_size=1, unique=True),
    controls=st.lists(st.sampled_from(["random-channels", "unpruned"]), unique=True),
)
def test_every_cell_has_its_own_name_and_comes_after_what_it_starts_from(
    seeds: list[int], budgets: list[float], students: int, matching: list[str], controls: list[str]
) -> None:
    sections = [{"name": f"net{number}", "source": "cifar_resnet8"} for number in range(students)]
    study = make(seeds=seeds, budgets=budgets, students=sections, matching=matching, controls=controls)
    order = {name: number for number, name in enumerate(names(study))}
    per_budget = 1 + len(matching) + ("random-channels" in controls)
    per_student = 1 + ("unpruned" in controls) + per_budget * len(budgets)
    assert len(order) == len(cells(study)) == len(seeds) * (1 + students * per_student)
    for cell in cells(study):
        if cell.kind != "teacher":
            assert order[f"teacher-seed{cell.seed}"] < order[cell.name]
        if cell.kind not in ("teacher", "student"):
            assert order[f"{cell.student}-student-seed{cell.seed}"] < order[cell.name]
        if cell.kind == "weights":
            assert order[channels_cell(cell).name] < order[cell.name]
    assert [seed for seed, _ in itertools.groupby(cells(study), lambda cell: cell.seed)] == list(study.seeds)


# --- the recipes of cells -----------------------------------------------------------------------------------

STUDENT = ModelSection(source="cifar_resnet8", weights=Path("runs/toy/a-student-seed3/1-distill"))
TEACHER = ModelSection(source="cifar_resnet20", weights=Path("runs/toy/teacher-seed3/1-train"))


def cut(study: Study, kind: Any, matching: Any = None, keep: float | None = 0.5) -> Recipe:
    cell = Cell(student="a", kind=kind, budget=0.5, matching=matching, seed=3)
    return pruned_recipe(study, cell, STUDENT, TEACHER, keep)


def test_teachers_are_trained_unless_they_have_weights() -> None:
    cell = Cell(student="", kind="teacher", seed=3)
    study = make(quantize={})
    recipe = teacher_recipe(study, cell, study.teacher_of(study.students[0]))  # type: ignore[arg-type]
    assert (recipe.name, recipe.seed, recipe.stages) == ("teacher-seed3", 3, (Train(do="train", epochs=2),))
    assert teacher_recipe(study, cell, TEACHER).stages == ()


def test_students_are_distilled_from_the_trained_teacher() -> None:
    study = make(students=[{"name": "a", "source": "cifar_resnet8", "arguments": {"width": 8}}], quantize={})
    recipe = student_recipe(study, Cell(student="a", kind="student", seed=3), TEACHER)
    assert recipe.model == ModelSection(source="cifar_resnet8", arguments={"width": 8})
    assert recipe.teacher == TeacherSection(**dict(TEACHER))
    assert [stage.do for stage in recipe.stages] == ["distill", "quantize"]


def test_cuts_start_from_the_student_and_are_recovered() -> None:
    study = make(weights={"scope": "layer"}, channels={"criterion": "l1"})
    recipe = cut(study, "weights", "parameters", 0.42)
    assert (recipe.model, recipe.teacher) == (STUDENT, TeacherSection(**dict(TEACHER)))
    recover = Distill(do="distill", epochs=1)
    assert recipe.stages == (Sparsify(do="sparsify", scope="layer", keep=0.42), recover)
    assert cut(study, "channels").stages == (
        PruneChannels(do="prune-channels", criterion="l1", keep_params=0.5),
        recover,
    )
    random = cut(study, "random-channels").stages[0]
    assert isinstance(random, PruneChannels) and random.criterion == "random"
    assert cut(study, "unpruned", keep=None).stages == (recover,)


def test_recovery_without_a_teacher_names_none() -> None:
    recipe = cut(make(recover={"do": "train", "epochs": 1}), "channels")
    assert recipe.teacher is None and recipe.stages[-1] == Train(do="train", epochs=1)


def test_a_trained_network_keeps_its_normalisation() -> None:
    fallback = Preprocess((0.5,), (0.25,))
    plain = trained_as(ModelSection(source="cifar_resnet8", arguments={"width": 8}), Path("x"), fallback)
    assert plain.model_dump() == {
        "source": "cifar_resnet8", "weights": Path("x"), "arguments": {"width": 8}, "mean": (0.5,), "std": (0.25,),
    }  # fmt: skip
    own = trained_as(ModelSection(source="cifar_resnet8", mean=(0.1,), std=(0.2,)), Path("x"), fallback)
    assert (own.mean, own.std) == ((0.1,), (0.2,))


def test_the_written_recipe_is_the_one_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = cut(make(data={"source": "npz", "root": "data"}, quantize={"method": "minmax"}), "weights", "encoded-size")
    folder = Path("runs/toy/recipes")
    folder.mkdir(parents=True)
    (folder / "cell.toml").write_text(recipe_text(recipe, folder))
    read = load_recipe(folder / "cell.toml")
    assert read.data.root is not None and read.data.root.resolve() == tmp_path / "data"
    assert read.model.weights is not None and read.model.weights.resolve() == tmp_path / str(STUDENT.weights)
    assert read.teacher is not None and read.teacher.weights is not None

    def without_paths(each: Recipe) -> dict[str, Any]:
        document = each.model_dump()
        for section in ("model", "teacher"):
            del document[section]["weights"]
        del document["data"]["root"]
        return document

    assert without_paths(read) == without_paths(recipe)
