"""A study: which students, cut how, to which budgets; TOML in, frozen out, as recipes are.

Its sections are those of recipes, and [train], [distill], [recover], [weights], [channels] and [quantize] are the
stages of recipes: their keys are the same, and `do` may be left out. What a budget decides (how much to keep) is not
theirs to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .bench.study.records import Matching
from .recipe import (
    STUDY,
    BenchSection,
    DataSection,
    ExportSection,
    ModelSection,
    find_file,
    read_as,
    resolve_paths,
    shipped_files,
)
from .recipe_stages import Distill, PruneChannels, Quantize, Section, Sparsify, SparsifyGradually, Train

FIXED = {
    "train": "train",
    "distill": "distill",
    "recover": "distill",
    "weights": "sparsify",
    "channels": "prune-channels",
    "quantize": "quantize",
}
"""Section -> the stage that it is where it does not say so."""

BUDGET_KEYS = ("keep", "keep_macs", "keep_params", "keep_latency")


class Student(ModelSection):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    teacher: ModelSection | None = None
    """Its own; default: the study's."""


class Study(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    kinds: tuple[Literal["weights", "channels"], ...] = Field(default=("weights", "channels"), min_length=1)
    budgets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(0.5, 0.25), min_length=1)
    """Shares of the student's parameters that may remain."""
    matching: tuple[Matching, ...] = Field(default=("parameters", "encoded-size"), min_length=1)
    controls: tuple[Literal["random-channels", "unpruned"], ...] = ("random-channels",)
    reference: Literal["teacher", "student"] = "teacher"
    """What retention and compression refer to."""
    tolerance: float = Field(default=1.0, ge=0)
    """Points of accuracy below the reference within which Performance Efficiency ranks."""
    students: tuple[Student, ...] = Field(min_length=1)
    teacher: ModelSection | None = None
    data: DataSection = DataSection()
    train: Train | None = None
    """How teachers without weights are trained."""
    distill: Distill
    """Teacher to student, before anything is cut."""
    recover: Annotated[Train | Distill, Field(discriminator="do")]
    """After each cut."""
    weights: Annotated[Sparsify | SparsifyGradually, Field(discriminator="do")] = Sparsify(do="sparsify")
    channels: PruneChannels = PruneChannels(do="prune-channels")
    quantize: Quantize | None = None
    """Given, every network is also measured in int8, and encoded sizes are matched there."""
    export: ExportSection = ExportSection()
    bench: BenchSection = BenchSection()

    @field_validator(*FIXED, mode="before")
    @classmethod
    def _name_stage(cls, value: Any, info: Any) -> Any:
        return {"do": FIXED[info.field_name], **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Study:
        names = [student.name for student in self.students]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two students are called "{name}"')
        for section in ("weights", "channels"):
            if taken := sorted(getattr(self, section).model_fields_set & set(BUDGET_KEYS)):
                raise ValueError(f"{section}.{taken[0]} follows from budgets; leave it out")
        if "encoded-size" in self.matching and set(self.kinds) != {"weights", "channels"}:
            raise ValueError('matching by "encoded-size" compares weights with channels; kinds must name both')
        for student in self.students:
            teacher = self.teacher_of(student)
            if teacher is None:
                raise ValueError(f'the student "{student.name}" has no teacher; add [teacher], or one of its own')
            if teacher.weights is None and self.train is None:
                raise ValueError(f"{teacher.source} is a teacher without weights; add [train], or its weights")
            if student.is_onnx or teacher.is_onnx:
                raise ValueError(f'the student "{student.name}" and its teacher must be PyTorch networks')
        return self

    def teacher_of(self, student: Student) -> ModelSection | None:
        return student.teacher or self.teacher


def shipped_studies() -> dict[str, Path]:
    """Studies that come with EdgeLathe, by name."""
    return {name: path for name, path in shipped_files().items() if name.startswith(STUDY)}


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, with `key.path=value` overrides applied.

    `path` may also be the name of a shipped study. Raises EdgeLatheError for whatever is wrong with it.
    """
    return read_as(Study, find_file(str(path), shipped_studies()), overrides, {}, _resolve)


def _resolve(document: dict[str, Any], folder: Path) -> None:
    resolve_paths(document, folder)
    students = document.get("students")
    for student in students if isinstance(students, list) else []:
        if isinstance(student, dict):
            resolve_paths({"model": student, "teacher": student.get("teacher")}, folder)
