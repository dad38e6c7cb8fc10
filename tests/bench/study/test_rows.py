from __future__ import annotations

from collections.abc import Callable

import pytest
from edgelathe.bench.study.records import LatencyRatio, StudyRecord
from edgelathe.bench.study.rows import Row, Spread, rows, students

Make = Callable[..., StudyRecord]


def by_kind(record: StudyRecord, number_format: str = "float") -> dict[tuple[str, str | None], Row]:
    return {(row.kind, row.matching): row for row in rows(record) if row.number_format == number_format}


def test_figures_of_one_seed_computed_by_hand(study_record: Make) -> None:
    row = by_kind(study_record())["channels", None]
    assert row.accuracy == Spread(0.94, None)
    assert (row.low, row.high) == pytest.approx((0.92353, 0.95310), abs=1e-5)  # Wilson, 940 of 1000
    assert row.below_reference == pytest.approx(2.0)
    assert row.retention.mean == pytest.approx(0.94 / 0.96)
    assert row.compression.mean == 4.0
    assert row.efficiency.mean == pytest.approx(3.916667, abs=1e-6)
    assert row.encoded_efficiency.mean == pytest.approx(3.916667, abs=1e-6)
    weights = by_kind(study_record())["weights", "parameters"]
    assert weights.efficiency.mean == pytest.approx(3.95)
    assert weights.encoded_efficiency.mean == pytest.approx(0.9875 * 400_000 / 106_250)


def test_the_reference_scores_one_and_may_be_the_student(study_record: Make) -> None:
    teacher = by_kind(study_record())["teacher", None]
    assert (teacher.efficiency.mean, teacher.retention.mean, teacher.latency) == (1.0, 1.0, None)
    student = by_kind(study_record(reference="student"))
    assert student["student", None].efficiency.mean == 1.0
    assert student["channels", None].compression.mean == 2.0


def test_seeds_become_means_with_their_standard_deviation(study_record: Make) -> None:
    row = by_kind(study_record(seeds=3))["student", None]
    assert row.seeds == 3
    assert row.accuracy.mean == pytest.approx(0.96)
    assert row.accuracy.std == pytest.approx(0.01)  # 0.95, 0.96, 0.97
    assert row.efficiency.std == pytest.approx(0.01 / 0.96 * 2)
    assert (row.encoded_bytes, row.packed_bytes) == (200_000, 190_000)
    assert row.latency == LatencyRatio(runtime="onnxruntime", threads=1, batch=1, ratio=1.0, low=0.95, high=1.05)


def test_ranks_are_by_efficiency_among_what_keeps_the_accuracy(study_record: Make) -> None:
    ranks = {key: row.rank for key, row in by_kind(study_record()).items()}
    assert ranks == {
        ("teacher", None): None,
        ("student", None): None,
        ("channels", None): None,  # 2.0 points below, tolerance 1.5
        ("weights", "parameters"): 2,
        ("weights", "encoded-size"): 1,
        ("random-channels", None): None,
    }


def test_number_formats_have_rows_and_ranks_of_their_own(study_record: Make) -> None:
    record = study_record(int8=True)
    assert len(rows(record)) == 6 + 5
    int8 = by_kind(record, "int8")["weights", "encoded-size"]
    assert (int8.rank, int8.encoded_bytes) == (1, 25_000)
    assert int8.encoded_efficiency.mean == pytest.approx(0.951 / 0.96 * 16)  # of the float teacher's bytes


def test_a_shared_teacher_leads_the_rows_of_every_student(study_record: Make) -> None:
    record = study_record()
    other = [
        made.model_copy(update={"cell": made.cell.model_copy(update={"student": "b"})}) for made in record.made[1:]
    ]
    both = record.model_copy(update={"made": (*record.made, *other)})
    assert students(both) == ["net", "b"]
    assert [(row.student, row.kind) for row in rows(both)].count(("b", "teacher")) == 1
    assert rows(both)[6].kind == "teacher"
