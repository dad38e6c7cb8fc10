"""The cells of a study, and the recipe of each: what a user would write by hand to make that network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .bench.study.records import Cell
from .bench.toml_text import to_toml
from .data import Preprocess
from .recipe import PATH_KEYS, SOURCE_KEYS, ModelSection, Recipe
from .recipe_networks import TeacherSection
from .recipe_stages import PruneChannels
from .studyrecipe import Student, Study
from .userfunction import is_user_function


def cells(study: Study) -> tuple[Cell, ...]:
    """Every cell, each after those that it starts from: a seed is finished before the next begins."""
    return tuple(cell for seed in study.seeds for cell in _of_seed(study, seed))


def _of_seed(study: Study, seed: int) -> Iterator[Cell]:
    if any(student.teacher is None for student in study.students):
        yield Cell(student="", kind="teacher", seed=seed)
    for student in study.students:
        name = student.name
        if student.teacher is not None:
            yield Cell(student=name, kind="teacher", seed=seed)
        yield Cell(student=name, kind="student", seed=seed)
        if "unpruned" in study.controls:
            yield Cell(student=name, kind="unpruned", seed=seed)
        for budget in sorted(study.budgets, reverse=True):
            yield from _of_budget(study, name, budget, seed)


def _of_budget(study: Study, student: str, budget: float, seed: int) -> Iterator[Cell]:
    if "channels" in study.kinds:
        yield Cell(student=student, kind="channels", budget=budget, seed=seed)
    if "weights" in study.kinds:
        for matching in study.matching:
            yield Cell(student=student, kind="weights", budget=budget, matching=matching, seed=seed)
    if "random-channels" in study.controls:
        yield Cell(student=student, kind="random-channels", budget=budget, seed=seed)


def teacher_cell(student: Student, seed: int) -> Cell:
    return Cell(student=student.name if student.teacher else "", kind="teacher", seed=seed)


def student_cell(student: Student, seed: int) -> Cell:
    return Cell(student=student.name, kind="student", seed=seed)


def channels_cell(cell: Cell) -> Cell:
    """The channel-pruned network that a network with pruned weights is matched to."""
    return cell.model_copy(update={"kind": "channels", "matching": None})


def student_of(study: Study, cell: Cell) -> Student:
    return next(student for student in study.students if student.name == cell.student)


def trained_as(section: ModelSection, folder: Path, preprocess: Preprocess) -> ModelSection:
    """`section` with the weights that a run has left in `folder`, and what it normalised by: its own, or the data
    set's `preprocess`."""
    return ModelSection(
        source=section.source,
        arguments=section.arguments,
        weights=folder,
        mean=section.mean or preprocess.mean,
        std=section.std or preprocess.std,
    )


def teacher_recipe(study: Study, cell: Cell, teacher: ModelSection) -> Recipe:
    """Trained by [train] where it has no weights, and exported, which makes it the reference."""
    return _recipe(study, cell, teacher, stages=() if teacher.weights is not None else (study.train,), int8=False)


def student_recipe(study: Study, cell: Cell, teacher: ModelSection) -> Recipe:
    """Distilled from the teacher; `teacher` has its trained weights."""
    student = student_of(study, cell)
    plain = ModelSection(**{key: getattr(student, key) for key in ModelSection.model_fields})
    return _recipe(study, cell, plain, stages=(study.distill,), teacher=teacher)


def pruned_recipe(study: Study, cell: Cell, student: ModelSection, teacher: ModelSection, keep: float | None) -> Recipe:
    """Cut to `keep` and recovered; `student` and `teacher` have their trained weights."""
    cut: tuple[Any, ...] = ()
    if cell.kind == "weights":
        cut = (type(study.weights)(**_keys(study.weights) | {"keep": keep}),)
    elif cell.kind in ("channels", "random-channels"):
        chosen = {"criterion": "random"} if cell.kind == "random-channels" else {}
        cut = (PruneChannels(**_keys(study.channels) | chosen | {"keep_params": keep}),)
    learns = study.recover.do == "distill"
    return _recipe(study, cell, student, stages=(*cut, study.recover), teacher=teacher if learns else None)


def _keys(stage: Any) -> dict[str, Any]:
    return {key: getattr(stage, key) for key in stage.model_fields_set | {"do"}}


def _recipe(
    study: Study,
    cell: Cell,
    model: ModelSection,
    *,
    stages: tuple[Any, ...],
    teacher: ModelSection | None = None,
    int8: bool = True,
) -> Recipe:
    last = (study.quantize,) if study.quantize is not None and int8 else ()
    return Recipe(
        name=cell.name,
        seed=cell.seed,
        model=model,
        teacher=None if teacher is None else TeacherSection(**dict(teacher)),
        data=study.data,
        stages=(*stages, *last),
        export=study.export,
        bench=study.bench,
    )


def recipe_text(recipe: Recipe, folder: Path) -> str:
    """The recipe as the TOML of a file in `folder`: its paths start there, and defaults are left out."""
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    document["model"]["source"] = recipe.model.source
    if recipe.teacher is not None:
        document["teacher"]["source"] = recipe.teacher.source
    for section, key in (*PATH_KEYS, *SOURCE_KEYS):
        value = document.get(section, {}).get(key)
        if value is not None and ((section, key) in PATH_KEYS or is_user_function(value)):
            document[section][key] = os.path.relpath(value, folder)
    return to_toml(document)
