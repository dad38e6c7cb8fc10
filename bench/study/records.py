"""The record of a study, study.json: every file that it made, with what was measured of it.

Everything else (retention, compression, Performance Efficiency, means over seeds) is derived from it in `rows`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from ...files import write_atomic
from ..records import Accuracy, Environment, Record

JSON_NAME = "study.json"

Kind = Literal["teacher", "student", "unpruned", "random-channels", "channels", "weights"]
Matching = Literal["parameters", "encoded-size"]
NumberFormat = Literal["float", "int8"]


class Cell(Record):
    """One network of the study under one seed."""

    student: str
    """Empty for a teacher that all students share."""
    kind: Kind
    budget: float | None = None
    """Share of the student's parameters that may remain."""
    matching: Matching | None = None
    """What a network with pruned weights has in common with the channel-pruned network of the same budget."""
    seed: int

    @property
    def name(self) -> str:
        """The name of its run's folder."""
        parts = [self.student] if self.student else []
        parts.append(self.kind)
        if self.budget is not None:
            parts.append(f"{100 * self.budget:g}")
        if self.matching is not None:
            parts.append(self.matching)
        return "-".join([*parts, f"seed{self.seed}"])


class LatencyRatio(Record):
    """Latency as a share of that of the student before it was pruned (float), measured in turn with it."""

    runtime: str
    threads: int
    batch: int
    ratio: float
    low: float
    high: float
    """95 % interval."""
    unstable: tuple[str, ...] = ()


class Made(Record):
    """One deployed file of a cell."""

    cell: Cell
    number_format: NumberFormat
    file: str
    """Relative to the study's folder."""
    keep: float | None
    """The share of weights or parameters that the pruning stage was asked to keep; none where nothing was pruned."""
    accuracy: Accuracy
    parameters: int
    """That the float file stores; batch norms are folded into them."""
    nonzero: int
    """Those of them that are not zero."""
    macs: int
    file_bytes: int
    encoded_bytes: int
    """Of this file's tensors, each as `bench.encoded` describes."""
    packed_bytes: int | None
    """Of this file packed, as `edgelathe pack` does; none where the library for it is missing."""
    latency: LatencyRatio | None


class Refused(Record):
    """A cell that could not be made."""

    cell: Cell
    reason: str


class StudyRecord(Record):
    version: Literal[1] = 1
    name: str
    created: str
    """UTC time of the newest measurement in it, ISO 8601."""
    tool_version: str
    data: dict[str, object]
    environments: tuple[Environment, ...]
    """Where its files were measured; more than one where a study moved between machines."""
    study: dict[str, object]
    """The study file."""
    reference: Literal["teacher", "student"]
    """What retention and compression refer to."""
    tolerance: float
    """Points of accuracy below the reference within which Performance Efficiency ranks."""
    planned: int = Field(ge=1)
    """Cells of the whole study."""
    made: tuple[Made, ...]
    refused: tuple[Refused, ...]

    @property
    def done(self) -> int:
        return len({made.cell.name for made in self.made} | {refused.cell.name for refused in self.refused})


def write_record(record: StudyRecord, folder: Path) -> None:
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / JSON_NAME, text, "the study")
