"""The recipe: what to load, which stages to run, what to measure and which budgets to hold; TOML in, frozen out.

The keys of a stage are the keyword arguments of the function behind it, under the same names and with the same
defaults (a test holds them to it). Relative paths in a recipe file start at the file's folder, those given on
the command line at the current one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from . import errors
from .recipe_errors import explain, wanted
from .recipe_networks import ModelSection, TeacherSection
from .recipe_stages import (
    DECIDED_BY_WIDTHS,
    KEEPS_EXITS,
    PRUNING_TARGETS,
    SEARCH_KEYS,
    Distill,
    DistillSeveral,
    FileStage,
    PruneChannels,
    Quantize,
    Section,
    SelfDistill,
    Stage,
    Train,
)
from .widthsfile import read_widths

Read = TypeVar("Read", bound=Section)


class DataSection(Section):
    source: str = "digits"
    root: Path | None = None
    size: int | None = None
    resize: int | None = None
    holdout: int = 0
    labels: Path | None = None
    num_classes: int | None = None
    limit_train: int | None = None
    limit_test: int | None = None
    calibration: int = Field(default=512, ge=1)
    """How many training images int8 ranges are calibrated on."""


class ExportSection(Section):
    opset: int = 18
    dynamic_batch: bool = True
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest difference between PyTorch and the ONNX file, as a share of the spread of the outputs."""


class BenchSection(Section):
    runtimes: tuple[str, ...] = Field(default=("onnxruntime",), min_length=1)
    threads: tuple[int, ...] = Field(default=(1,), min_length=1)
    batch: int = Field(default=1, ge=1)
    seconds: float = Field(default=20.0, gt=0)
    """Budget of each latency measurement (one per runtime and thread count, all candidates together)."""
    memory: bool = True


class Recipe(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    model: ModelSection
    teacher: TeacherSection | None = None
    """Teacher of the distil stages; default: the network before the first stage that compresses it. Of the qat stages
    as well; their default is the float file that they start from."""
    teachers: tuple[TeacherSection, ...] = ()
    """All that the distill-several stages learn from."""
    data: DataSection = DataSection()
    stages: tuple[Stage, ...] = ()
    export: ExportSection = ExportSection()
    bench: BenchSection = BenchSection()
    gate: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _order_makes_sense(self) -> Recipe:
        quantized: str | None = None
        for number, stage in enumerate(self.stages):
            if isinstance(stage, FileStage):
                quantized = stage.do
            if stage.do == "quantize":
                defaults = {key: Quantize.model_fields[key].default for key in SEARCH_KEYS}
                idle = {key for key, default in defaults.items() if getattr(stage, key) != default}
                if idle and stage.max_accuracy_drop is None:
                    raise ValueError(
                        f"stages.{number} (quantize) has {' and '.join(sorted(idle))}, which only a search uses; add"
                        " max_accuracy_drop, or leave it out"
                    )
            elif not isinstance(stage, FileStage) and quantized:
                raise ValueError(
                    f"stages.{number} ({stage.do}) works on the float network and must come before {quantized}"
                )
            elif not isinstance(stage, FileStage) and self.model.is_onnx:
                raise ValueError(
                    f"stages.{number} ({stage.do}) needs a PyTorch network, and model.source is an ONNX file;"
                    " an ONNX file can be quantized, measured and gated"
                )
            if isinstance(stage, SelfDistill) and stage.keep_exits:
                behind_it = (later.do for later in self.stages[number + 1 :] if later.do not in KEEPS_EXITS)
                if changer := next(behind_it, None):
                    raise ValueError(errors.exits.kept_exits_not_last(number, changer))
            if isinstance(stage, PruneChannels):
                behind = self.stages[number + 1] if number + 1 < len(self.stages) else None
                if why := _unusable_widths_or_steps(number, stage, behind):
                    raise ValueError(why)
        if self.teacher is not None and not any(stage.do in ("distill", "qat") for stage in self.stages):
            raise ValueError("teacher names a network, and no stage learns from it")
        several = any(stage.do == "distill-several" for stage in self.stages)
        if self.teachers and not several:
            raise ValueError("teachers are given, and no stage learns from them; add a stage distill-several")
        if several and not self.teachers:
            raise ValueError("distill-several has nobody to learn from; add [[teachers]]")
        if self.model.is_onnx and self.model.weights is not None:
            raise ValueError("model.weights is for PyTorch networks; an ONNX file brings its own")
        return self


def _unusable_widths_or_steps(number: int, stage: PruneChannels, behind: Stage | None) -> str:
    """Why keys of a prune-channels stage contradict each other or what stands behind it; empty if they do not."""
    if stage.widths is not None:
        if stage.steps > 1:
            return errors.widths.steps_of_stated_widths(number)
        decided = (key for key in DECIDED_BY_WIDTHS if getattr(stage, key) != PruneChannels.model_fields[key].default)
        if key := next(decided, ""):
            return errors.widths.widths_beside_target(number, key)
    given = [key for key in PRUNING_TARGETS if getattr(stage, key) is not None]
    if len(given) > 1:
        return errors.prune.several_targets_in_stage(number, given)
    if stage.latency_of != PruneChannels.model_fields["latency_of"].default and not stage.measures:
        return errors.prune.idle_latency_of(number)
    if stage.steps > 1 and not isinstance(behind, Train | Distill | DistillSeveral):
        return errors.widths.steps_without_recovery(number, stage.steps)
    return ""


PATH_KEYS = (("model", "weights"), ("teacher", "weights"), ("data", "root"), ("data", "labels"))
SOURCE_KEYS = (("model", "source"), ("teacher", "source"), ("data", "source"))
TABLES = {"stages": "epochs=10", "students": "weights=net.pth", "teachers": "weights=net.pth"}
"""Lists of tables, whose keys `--set` reaches by number; each with an example."""


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with EdgeLathe, by name."""
    return {name: path for name, path in shipped_files().items() if not name.startswith(STUDY)}


STUDY = "study-"
"""How the names of shipped files begin that are no recipes but studies, which `studyrecipe` reads."""


def shipped_files() -> dict[str, Path]:
    """Recipes and studies that come with EdgeLathe, by name."""
    folder = Path(str(resources.files(__package__))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (default: the shipped digits recipe), with `key.path=value` overrides applied.

    `path` may also be the name of a shipped recipe. Raises EdgeLatheError for whatever is wrong with it.
    """
    file = find_file("digits" if path is None else str(path), shipped_recipes())
    return read_as(Recipe, file, overrides, {"stages": []}, resolve_paths)


def read_as(
    kind: type[Read],
    file: Path,
    overrides: Sequence[str],
    defaults: dict[str, Any],
    resolve: Callable[[dict[str, Any], Path], None],
) -> Read:
    """The TOML file as a `kind`. `resolve` is given the document and the folder that its relative paths start at.

    Raises EdgeLatheError for whatever is wrong with it.
    """
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as reason:
        raise errors.inputs.unreadable_file(
            "the recipe", file, reason.strerror or str(reason), "check the path"
        ) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise errors.inputs.unreadable_file(
            "the recipe", file, f"it is not valid TOML ({reason})", "mend that line"
        ) from reason
    document = {"name": file.stem, **defaults, **document}
    resolve(document, file.parent)
    for override in overrides:
        _set(document, override)
    _read_widths(document)
    try:
        return kind.model_validate(document)
    except ValidationError as reason:
        raise errors.runs.wrong_recipe(explain(reason, kind, document, text, file, overrides)) from None


def find_file(name: str, shipped: Mapping[str, Path]) -> Path:
    """The file called `name`, or the shipped one of that name. Raises EdgeLatheError where there is neither."""
    if Path(name).is_file():
        return Path(name)
    if name in shipped:
        return shipped[name]
    if name.endswith(".toml") or "/" in name:
        raise errors.inputs.missing_file("the recipe", name)
    raise errors.inputs.unknown_choice("recipe", name, shipped)


def resolve_paths(document: dict[str, Any], folder: Path) -> None:
    """Let the relative paths of the sections in `document` start at `folder`."""
    teachers = _tables(document, "teachers")
    weighted = [(_table(document, section), key) for section, key in PATH_KEYS] + [(it, "weights") for it in teachers]
    for table, key in weighted:
        if isinstance(table.get(key), str):
            table[key] = str(folder / Path(table[key]).expanduser())
    sourced = [(_table(document, section), key) for section, key in SOURCE_KEYS] + [(it, "source") for it in teachers]
    for table, key in sourced:
        value = table.get(key)
        if isinstance(value, str) and (value.endswith(".onnx") or ".py:" in value):
            table[key] = str(folder / Path(value).expanduser())
    for stage in _tables(document, "stages"):
        if isinstance(stage.get("widths"), str):
            stage["widths"] = str(folder / Path(stage["widths"]).expanduser())


def _read_widths(document: dict[str, Any]) -> None:
    """Replace the names of widths files by what they hold, so that it, and not their place, is part of the recipe."""
    for stage in _tables(document, "stages"):
        if isinstance(stage.get("widths"), str):
            stage["widths"] = read_widths(Path(stage["widths"]))


def _tables(document: dict[str, Any], section: str) -> list[dict[str, Any]]:
    tables = document.get(section)
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _table(document: dict[str, Any], section: str) -> dict[str, Any]:
    table = document.get(section)
    return table if isinstance(table, dict) else {}


def _set(document: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    *parents, last = path.strip().split(".")
    if not separator or not all((*parents, last)):
        raise errors.runs.bad_override(override, "it is not of the form key.path=value")
    target: Any = document
    for number, part in enumerate(parents):
        if isinstance(target, list):
            target = _entry(target, parents[:number], part, override)
        elif isinstance(target, dict):
            target = target.setdefault(part, {})
        if not isinstance(target, dict | list):
            raise errors.runs.bad_override(override, f"{'.'.join(parents[: number + 1])} holds no keys")
    if isinstance(target, list):
        _entry(target, parents, last, override)
        raise errors.runs.bad_override(
            override, f"a whole {parents[0][:-1]} cannot be set, only a key of it, as in {path}.{TABLES[parents[0]]}"
        )
    target[last] = _value(text.strip())


def _entry(items: list[Any], place: list[str], part: str, override: str) -> Any:
    if len(place) != 1 or place[0] not in TABLES:
        key = ".".join(place)
        raise errors.runs.bad_override(override, f"{key} is a list and is set as a whole, as in {key}=[1, 2]")
    if not part.isdecimal() or int(part) >= len(items):
        things = place[0]
        held = f"{things} 0 to {len(items) - 1}" if items else f"no {things}"
        raise errors.runs.bad_override(override, f"there is no {things[:-1]} {part}: the recipe has {held}")
    return items[int(part)]


def _value(text: str) -> Any:
    """The TOML value that `text` spells, or `text` itself where it spells none, or a date: folders have such names."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return text if isinstance(value, date | time) else value


def bench_section(**keys: Any) -> BenchSection:
    """The section from keywords instead of a file. Raises EdgeLatheError for values that cannot be measured with."""
    try:
        return BenchSection(**keys)
    except ValidationError as failure:
        problem = failure.errors()[0]
        raise errors.inputs.bad_setting(str(problem["loc"][0]), problem["input"], wanted(problem)) from None
