"""Carry out a study: every cell is a run of an ordinary recipe, in runs/<study>/<cell>.

Teachers are trained once per seed and students distilled once; the cells that cut a student start from its saved
network. Whatever is finished is found again, so that a study continues where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from .bench.encoded import stored_size
from .bench.latency import Progress
from .bench.records import Candidate, Report
from .bench.study.plot import draw
from .bench.study.records import Cell, LatencyRatio, Made, NumberFormat, Refused, StudyRecord, write_record
from .bench.study.table import markdown
from .compress.pack.pack import packed_size
from .data import Dataset
from .errors import EdgeLatheError
from .errors import study as refusals
from .export.metadata import without_folders
from .files import write_atomic
from .networks import load_source, saved_in
from .pipeline import begin
from .pipeline import run as run_recipe
from .recipe import ModelSection, Recipe
from .runfolder import locked
from .studycells import (
    cells,
    channels_cell,
    pruned_recipe,
    recipe_text,
    student_cell,
    student_of,
    student_recipe,
    teacher_cell,
    teacher_recipe,
    trained_as,
)
from .studymatch import Dense, matched_share
from .studyrecipe import Study
from .version import __version__

MARKDOWN_NAME, SVG_NAME, RECIPES = "study.md", "study.svg", "recipes"


def run(
    study: Study,
    *,
    runs: Path | str = "runs",
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[StudyRecord, Path]:
    """Carry out `study` in `runs`/<name>, continuing whatever is there; returns the record and the folder.

    After each cell the record, the table and the plot of what is done so far are written. A cut that cannot be made is
    recorded with its reason. Raises EdgeLatheError for all that is wrong with the study, its data and its networks.
    """
    planned = cells(study)
    folder = Path(runs) / study.name
    with locked(folder):
        work = _Work(study, folder, say, progress, on_round)
        for number, cell in enumerate(planned):
            say(f"{number} of {len(planned)} networks done; next is {cell.name}")
            work.do(cell)
            record = work.record(len(planned))
            _write(record, folder)
        say(f"{record.done} of {len(planned)} networks done")
    return record, folder


def _write(record: StudyRecord, folder: Path) -> None:
    write_record(record, folder)
    write_atomic(folder / MARKDOWN_NAME, markdown(record), "the study's table")
    if drawing := draw(record):
        write_atomic(folder / SVG_NAME, drawing, "the study's plot")


class _Work:
    """The study in progress: the reports of its cells, and what is read off them."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        say: Callable[[str], None],
        progress: bool,
        on_round: Callable[[Progress], None] | None,
    ) -> None:
        self.study, self.folder, self.say, self.progress, self.on_round = study, folder, say, progress, on_round
        self.data: Dataset = begin(teacher_recipe(study, cells(study)[0], self._teacher_section(cells(study)[0])))[1]
        self.reports: dict[str, Report] = {}
        self.made: dict[tuple[str, str], Made] = {}
        """By the names of cell and number format."""
        self.refused: list[Refused] = []

    # --- cells -----------------------------------------------------------------------------------------------

    def do(self, cell: Cell) -> None:
        if cell.kind == "teacher":
            self._run(cell, teacher_recipe(self.study, cell, self._teacher_section(cell)))
        elif cell.kind == "student":
            self._run(cell, student_recipe(self.study, cell, self._teacher(cell)))
        else:
            try:
                keep = self._keep(cell)
                recipe = pruned_recipe(self.study, cell, self._student(cell), self._teacher(cell), keep)
                self._run(cell, recipe, keep)
            except EdgeLatheError as reason:
                self.refused.append(Refused(cell=cell, reason=str(reason)))
                self.say(f"  {reason}")

    def _run(self, cell: Cell, recipe: Recipe, keep: float | None = None) -> None:
        text = recipe_text(recipe, self.folder / RECIPES)
        write_atomic(self.folder / RECIPES / f"{cell.name}.toml", text, "the recipe")
        report, _ = run_recipe(
            recipe,
            runs=self.folder,
            say=lambda line: self.say(f"  {line}"),
            progress=self.progress,
            on_round=self.on_round,
        )
        self.reports[cell.name] = report
        self._read(cell, report, keep)

    def _teacher_section(self, cell: Cell) -> ModelSection:
        own = student_of(self.study, cell).teacher if cell.student else self.study.teacher
        assert own is not None
        return own

    def _teacher(self, cell: Cell) -> ModelSection:
        student = student_of(self.study, cell)
        made = teacher_cell(student, cell.seed)
        section = self._teacher_section(made)
        return section if section.weights is not None else self._trained(section, made)

    def _student(self, cell: Cell) -> ModelSection:
        student = student_of(self.study, cell)
        return self._trained(student, student_cell(student, cell.seed))

    def _trained(self, section: ModelSection, cell: Cell) -> ModelSection:
        root = self.folder / cell.name
        stages = [root / stage.folder for stage in self.reports[cell.name].stages]
        last = next(stage for stage in reversed(stages) if saved_in(stage) != stage)
        return trained_as(section, last, self.data.preprocess)

    # --- matching --------------------------------------------------------------------------------------------

    def _keep(self, cell: Cell) -> float | None:
        """The share that the stage which prunes is asked to keep."""
        if cell.kind != "weights":
            return cell.budget
        assert cell.budget is not None
        student, shipped = student_of(self.study, cell), self._shipped
        start = student_cell(student, cell.seed).name
        dense = Dense(
            nonzero=self.made[start, "float"].nonzero,
            encoded_bytes=self.made[start, shipped].encoded_bytes,
            bytes_per_weight=1 if shipped == "int8" else 4,
        )
        target = cell.budget * dense.nonzero
        if "channels" in self.study.kinds:
            other = channels_cell(cell).name
            if (other, "float") not in self.made:
                raise refusals.unmatched(other)
            same_bytes = cell.matching == "encoded-size"
            target = self.made[other, shipped].encoded_bytes if same_bytes else self.made[other, "float"].nonzero
        network = load_source(self._student(cell), self.data, cell.seed)
        example = network.example(self.data)
        return matched_share(network.model, example, self.study.weights, dense, target, cell.matching)

    @property
    def _shipped(self) -> NumberFormat:
        return "float" if self.study.quantize is None else "int8"

    # --- the record ------------------------------------------------------------------------------------------

    def _read(self, cell: Cell, report: Report, keep: float | None) -> None:
        """Note what the cell's files are: the last one, and under int8 the float file that it was made from."""
        has_int8 = self._shipped == "int8" and cell.kind != "teacher"
        formats: dict[NumberFormat, Candidate] = {"float": report.candidates[-2 if has_int8 else -1]}
        if has_int8:
            formats["int8"] = report.candidates[-1]
        root = self.folder / cell.name
        counted = stored_size(root / formats["float"].file)
        for number_format, candidate in formats.items():
            path = root / candidate.file
            assert candidate.accuracy is not None
            self.made[cell.name, number_format] = Made(
                cell=cell,
                number_format=number_format,
                file=str(path.relative_to(self.folder)),
                keep=keep,
                accuracy=candidate.accuracy,
                parameters=counted.parameters,
                nonzero=counted.nonzero,
                macs=candidate.facts.macs,
                file_bytes=candidate.facts.file_bytes,
                encoded_bytes=stored_size(path).encoded_bytes,
                packed_bytes=packed_size(path) if find_spec("constriction") else None,
                latency=None if cell.kind == "teacher" else _ratio(candidate),
            )

    def record(self, planned: int) -> StudyRecord:
        reports = list(self.reports.values())
        machines = {report.environment.fingerprint: report.environment for report in reports}
        return StudyRecord(
            name=self.study.name,
            created=max(report.created for report in reports),
            tool_version=__version__,
            data=reports[0].data,
            environments=tuple(machines.values()),
            study={key: without_folders(value) for key, value in self.study.model_dump(mode="json").items()},
            reference=self.study.reference,
            tolerance=self.study.tolerance,
            planned=planned,
            made=tuple(self.made.values()),
            refused=tuple(self.refused),
        )


def _ratio(candidate: Candidate) -> LatencyRatio | None:
    """Under the first runtime and thread count, against the report's reference: the student as it was."""
    if not candidate.latency:
        return None
    first = candidate.latency[0]
    return LatencyRatio(
        runtime=first.runtime,
        threads=first.threads,
        batch=first.batch,
        ratio=first.ratio,
        low=first.ratio_low,
        high=first.ratio_high,
        unstable=first.unstable,
    )
