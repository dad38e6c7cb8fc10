"""Measurements as immutable records: what every probe returns and every report is made of.

All sizes are bytes, all times milliseconds, all shares fractions in [0, 1] unless a field says otherwise.
Records are pydantic models so that a report read back from disk is checked as strictly as one just made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 knew neither classes nor exits, and of an epoch neither its learning rate nor what the loss logged."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Environment(Record):
    """Where a measurement was taken. Records of different fingerprints are not compared unless asked for."""

    cpu: str
    cores: int
    memory_bytes: int
    isa: tuple[str, ...]
    """The instruction sets that decide int8 speed: avx2, avx512_vnni, avx_vnni, amx_int8, asimddp, i8mm."""
    system: str
    python: str
    versions: dict[str, str]
    fingerprint: str
    """Short hash over the fields above, memory rounded to GiB."""


class Accuracy(Record):
    correct: int = Field(ge=0)
    total: int = Field(gt=0)
    top1: float
    low: float
    high: float
    """Wilson 95 % interval of top1."""
    predictions_sha256: str | None = None


class ClassAnswers(Record):
    """What a candidate answers to the test images of one class: a row of its confusion matrix."""

    name: str
    total: int = Field(gt=0)
    correct: int = Field(ge=0)
    taken_for: dict[str, Annotated[int, Field(gt=0)]]
    """Images by the other class that was answered, most frequent first."""
    gained: int | None = Field(default=None, ge=0)
    lost: int | None = Field(default=None, ge=0)
    """Images of this class that only this candidate / only the reference classifies right."""

    @model_validator(mode="after")
    def _adds_up(self) -> ClassAnswers:
        wrong = sum(self.taken_for.values())
        if self.correct + wrong != self.total or self.name in self.taken_for:
            raise ValueError(
                f'of the {self.total} images of "{self.name}", {self.correct} are right and {wrong} taken for others'
            )
        if (self.gained or 0) > self.correct or (self.lost or 0) > wrong:
            raise ValueError(f'"{self.name}" gained or lost more images than it has right or wrong')
        return self


class Latency(Record):
    """Latency of one candidate under one runtime and thread count, interleaved with its reference.

    A run on one processor core is timed by the processor time of its process, on several by the clock.
    """

    runtime: str
    threads: int
    batch: int
    median_ms: float
    q1_ms: float
    q3_ms: float
    runs: int
    bursts_ms: tuple[float, ...]
    """Median of each burst, in order of time."""
    reference: str
    ratio: float = Field(gt=0)
    """Latency as a share of the reference's; 1.0 for the reference itself."""
    ratio_low: float = Field(gt=0)
    ratio_high: float = Field(gt=0)
    """Bootstrap 95 % interval of the ratio over paired bursts."""
    load_ms: float
    first_ms: float
    """Cold start: opening the file, and the first run after it."""
    unstable: tuple[str, ...] = ()
    """Reasons why these figures should not be trusted; empty when they may be."""


class Memory(Record):
    """Resident size of a fresh process that holds Python, numpy and the runtime."""

    runtime: str
    before_load: int
    after_load: int
    after_first: int
    steady: int
    peak: int
    threads: int = 1
    batch: int = 1


class NodeOutcome(Record):
    """What became of one operator of the float graph."""

    name: str
    op: str
    outcome: Literal["int8", "float"]
    reason: str
    """Why it stayed float; empty for int8."""


class GraphFacts(Record):
    """What can be read off an ONNX file without running it; exact and repeatable."""

    file_bytes: int
    sha256: str
    parameters: int
    macs: int
    """Multiply-accumulates of one sample (convolutions, Gemm, MatMul)."""
    bytes_by_type: dict[str, int]
    """Initializer bytes by element type."""
    ops: dict[str, int]
    activation_peak: int
    """Largest sum of live activation bytes over the graph's order of execution, one sample. Quantized operators are
    taken to run on integers, and elementwise ones to overwrite an operand that nobody reads again."""
    int8_macs: int
    """MACs whose operator reads dequantized (or integer) operands on both sides."""
    opset: int
    ir_version: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    notes: tuple[str, ...] = ()
    """What the figures above leave out, and why; empty when they are complete."""


class Candidate(Record):
    """One deployable file and everything that was measured of it."""

    name: str
    file: str
    """Path relative to the run's folder."""
    facts: GraphFacts
    accuracy: Accuracy | None = None
    latency: tuple[Latency, ...] = ()
    memory: tuple[Memory, ...] = ()
    agreement: Accuracy | None = None
    """Share of test images classified as the reference candidate does (correct = agreeing)."""
    disagreement_gained: int | None = None
    disagreement_lost: int | None = None
    """Images only this candidate / only the reference classifies right, for the paired gate."""
    nodes: tuple[NodeOutcome, ...] = ()
    """Per operator int8 or float with the reason; empty for float candidates."""
    exits: dict[str, Accuracy] = {}
    """Of a file with early exits: how often each is right, by the name of its output, from the shallowest on."""
    classes: tuple[ClassAnswers, ...] = ()
    """Per class with test images, in the data set's order; empty where accuracy was not measured."""

    @model_validator(mode="after")
    def _classes_make_the_accuracy(self) -> Candidate:
        if not self.classes:
            return self
        if len({entry.name for entry in self.classes}) != len(self.classes):
            raise ValueError(f'"{self.name}" lists a class twice')
        counted = sum(entry.correct for entry in self.classes), sum(entry.total for entry in self.classes)
        if self.accuracy is None or counted != (self.accuracy.correct, self.accuracy.total):
            raise ValueError(f'the classes of "{self.name}" do not add up to its accuracy')
        changes = [(entry.gained, entry.lost) for entry in self.classes]
        if (None, None) in changes:
            return self
        gained, lost = (sum(change[side] or 0 for change in changes) for side in (0, 1))
        if (gained, lost) != (self.disagreement_gained, self.disagreement_lost):
            raise ValueError(f'the classes of "{self.name}" do not add up to the images it gained and lost')
        return self


class LayerWidth(Record):
    layer: str
    before: int
    after: int
    reason: str
    """Why it was left unpruned; empty where it was pruned."""


class EpochPoint(Record):
    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    images_per_second: float
    lr: float | None = None
    """Learning rate in the middle of the epoch; None where it was not recorded."""
    logged: dict[str, float] = {}
    """Means over the epoch of what its loss is made of, such as the teacher's share."""


class StageRecord(Record):
    """One stage of the run, as its folder keeps it."""

    do: str
    folder: str
    key: str
    settings: dict[str, object]
    summary: str
    """One sentence for people: what the stage did."""
    widths: tuple[LayerWidth, ...] = ()
    epochs: tuple[EpochPoint, ...] = ()
    facts: dict[str, object] = {}


class Check(Record):
    """The verdict on one budget."""

    metric: str
    budget: str
    measured: str
    verdict: Literal["pass", "fail", "unjudged"]
    reason: str


class GateVerdict(Record):
    candidate: str
    reference: str | None
    """Candidate that relative budgets refer to, in this report or in the baseline report."""
    checks: tuple[Check, ...]
    exit_code: Literal[0, 1, 2]
    """0 every budget kept, 1 a budget broken, 2 none broken but one could not be judged."""
    baseline: str | None = None
    """Name of the baseline report, where one was given."""


class Report(Record):
    schema_version: int = SCHEMA_VERSION
    name: str
    created: str
    """UTC time, ISO 8601."""
    tool_version: str
    data: dict[str, object]
    """Name, image counts and fingerprint of the data that accuracy was measured on."""
    environment: Environment
    recipe: dict[str, object]
    stages: tuple[StageRecord, ...]
    candidates: tuple[Candidate, ...]
    reference: str
    """Name of the candidate that ratios and relative budgets refer to."""
    gate: GateVerdict | None = None

    @model_validator(mode="after")
    def _hangs_together(self) -> Report:
        by_name = {candidate.name: candidate for candidate in self.candidates}
        if len(by_name) != len(self.candidates):
            raise ValueError("two candidates have the same name")
        if self.reference not in by_name:
            raise ValueError(f'the reference "{self.reference}" is not among the candidates')
        dense = by_name[self.reference].accuracy
        rows = {
            candidate.name: [(entry.name, entry.total) for entry in candidate.classes]
            for candidate in self.candidates
            if candidate.classes
        }
        for name, row in rows.items():
            if row != next(iter(rows.values())):
                raise ValueError(f'the classes of "{name}" are not those of "{next(iter(rows))}"')
        for candidate in self.candidates:
            mine = candidate.accuracy
            gained, lost = candidate.disagreement_gained, candidate.disagreement_lost
            if mine is None or dense is None or mine.total != dense.total or gained is None or lost is None:
                continue
            if gained - lost != mine.correct - dense.correct:
                raise ValueError(
                    f'"{candidate.name}" gained {gained} and lost {lost} images against the reference, '
                    f"but classifies {mine.correct} right where the reference does {dense.correct}"
                )
        return self
