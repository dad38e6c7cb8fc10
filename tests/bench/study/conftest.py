from __future__ import annotations

from collections.abc import Callable

import pytest
from edgelathe.bench.records import Accuracy, Environment
from edgelathe.bench.stats import wilson
from edgelathe.bench.study.records import Cell, LatencyRatio, Made, Refused, StudyRecord

MACHINE = Environment(
    cpu="toy", cores=2, memory_bytes=1, isa=(), system="Linux", python="3.13", versions={}, fingerprint="abc"
)
# kind, budget, matching, of 1000 images right, not zero, encoded bytes, latency ratio
ROWS = (
    ("teacher", None, None, 960, 100_000, 400_000, None),
    ("student", None, None, 950, 50_000, 200_000, 1.0),
    ("channels", 0.5, None, 940, 25_000, 100_000, 0.6),
    ("weights", 0.5, "parameters", 948, 25_000, 106_250, 1.02),
    ("weights", 0.5, "encoded-size", 951, 23_438, 100_000, 0.98),
    ("random-channels", 0.5, None, 900, 25_000, 100_000, 0.61),
)


def made(row: tuple, seed: int, number_format: str = "float", right: int = 0) -> Made:  # type: ignore[type-arg]
    kind, budget, matching, correct, nonzero, encoded, ratio = row
    correct += right
    low, high = wilson(correct, 1000)
    latency = None
    if ratio is not None:
        latency = LatencyRatio(
            runtime="onnxruntime", threads=1, batch=1, ratio=ratio, low=ratio - 0.05, high=ratio + 0.05
        )
    return Made(
        cell=Cell(student="" if kind == "teacher" else "net", kind=kind, budget=budget, matching=matching, seed=seed),
        number_format=number_format,  # type: ignore[arg-type]
        file="net.onnx",
        keep=budget,
        accuracy=Accuracy(correct=correct, total=1000, top1=correct / 1000, low=low, high=high),
        parameters=nonzero,
        nonzero=nonzero,
        macs=1_000_000,
        file_bytes=encoded + 5_000,
        encoded_bytes=encoded,
        packed_bytes=encoded - 10_000 * seed,
        latency=latency,
    )


@pytest.fixture
def study_record() -> Callable[..., StudyRecord]:
    """A study of one student; each further seed has 10 images more right in every row but the teacher's."""

    def make(seeds: int = 1, int8: bool = False, **changes: object) -> StudyRecord:
        files = []
        for seed in range(seeds):
            files += [made(row, seed, right=10 * seed * (row[0] != "teacher")) for row in ROWS]
            files += [made((*row[:5], row[5] // 4, row[6]), seed, "int8") for row in ROWS[1:] if int8]
        record = StudyRecord(
            name="toy",
            created="2026-01-01T00:00:00+00:00",
            tool_version="1",
            data={"name": "digits"},
            environments=(MACHINE,),
            study={},
            reference="teacher",
            tolerance=1.5,
            planned=8,
            made=tuple(files),
            refused=(
                Refused(cell=Cell(student="net", kind="channels", budget=0.01, seed=0), reason="too few are left"),
            ),
        )
        return record.model_copy(update=changes)

    return make
