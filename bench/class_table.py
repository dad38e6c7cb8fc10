"""The per-class table of a report: the candidate it is about against the reference, worst classes first."""

from __future__ import annotations

from dataclasses import dataclass

from .paired import paired_interval
from .records import Candidate, ClassAnswers, Report
from .stats import wilson
from .view import reference_of, subject_of


@dataclass(frozen=True)
class Recall:
    """Share of a class's images that were found, with its Wilson interval, and what most of the others became."""

    correct: int
    total: int
    low: float
    high: float
    taken_for: str
    """The class most often answered instead; empty where all is right."""
    taken: int

    @property
    def share(self) -> float:
        return self.correct / self.total


@dataclass(frozen=True)
class ClassRow:
    name: str
    recall: Recall
    reference: Recall | None
    """None where the report is about the reference itself."""
    points: float | None
    """Recall against the reference's, in points; None where images were not compared one by one."""
    low: float | None
    high: float | None
    reference_taken: int | None
    """Images of the class that the reference takes for `recall.taken_for`."""

    @property
    def stands_out(self) -> bool:
        """Whether the interval of the change leaves out zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def class_rows(report: Report) -> list[ClassRow]:
    """Lowest recall first; empty where the candidate was not judged class by class."""
    subject, reference = subject_of(report), reference_of(report)
    others = {} if subject is reference else {entry.name: entry for entry in reference.classes}
    rows = [_row(entry, others.get(entry.name)) for entry in subject.classes]
    return sorted(rows, key=lambda row: row.recall.share)


def _row(entry: ClassAnswers, other: ClassAnswers | None) -> ClassRow:
    recall = _recall(entry)
    points = low = high = None
    if other is not None and entry.gained is not None and entry.lost is not None:
        points = 100 * (entry.correct - other.correct) / entry.total
        low, high = (100 * limit for limit in paired_interval(entry.gained, entry.lost, entry.total))
    reference_taken = None if other is None or not recall.taken_for else other.taken_for.get(recall.taken_for, 0)
    return ClassRow(entry.name, recall, None if other is None else _recall(other), points, low, high, reference_taken)


def _recall(entry: ClassAnswers) -> Recall:
    low, high = wilson(entry.correct, entry.total)
    taken_for, taken = next(iter(entry.taken_for.items()), ("", 0))
    return Recall(entry.correct, entry.total, low, high, taken_for, taken)


def confusions(report: Report) -> list[str]:
    """The most frequent confusion, and the one that grew most against the reference, in a sentence each."""
    subject, reference = subject_of(report), reference_of(report)
    pairs = _pairs(subject)
    if not pairs:
        return []
    others = {} if subject is reference else _pairs(reference)
    totals = {entry.name: entry.total for entry in subject.classes}
    worst = max(pairs, key=lambda pair: pairs[pair])
    said = [f"{subject.name} most often takes {worst[0]} for {worst[1]}: {pairs[worst]} of {totals[worst[0]]} images"]
    if others:
        said[0] += f", {reference.name} {others.get(worst, 0)}"
    grown = max(pairs, key=lambda pair: pairs[pair] - others.get(pair, 0))
    if others and grown != worst and pairs[grown] > others.get(grown, 0):
        said.append(
            f"The confusion that grew most against {reference.name}: {grown[0]} taken for {grown[1]}, "
            f"{pairs[grown]} of {totals[grown[0]]} images instead of {others.get(grown, 0)}"
        )
    return [f"{sentence}." for sentence in said]


def _pairs(candidate: Candidate) -> dict[tuple[str, str], int]:
    """Images by (their class, the class they were taken for)."""
    return {(entry.name, other): count for entry in candidate.classes for other, count in entry.taken_for.items()}
