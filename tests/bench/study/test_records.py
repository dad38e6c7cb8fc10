from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.study.records import Cell, StudyRecord, write_record


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Cell(student="", kind="teacher", seed=0), "teacher-seed0"),
        (Cell(student="a", kind="teacher", seed=0), "a-teacher-seed0"),
        (Cell(student="a", kind="channels", budget=0.125, seed=2), "a-channels-12.5-seed2"),
        (
            Cell(student="a", kind="weights", budget=0.5, matching="encoded-size", seed=1),
            "a-weights-50-encoded-size-seed1",
        ),
    ],
)
def test_cells_name_folders(cell: Cell, name: str) -> None:
    assert cell.name == name


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path, study_record: Callable[..., StudyRecord]) -> None:
    record = study_record(seeds=2, int8=True)
    write_record(record, tmp_path)
    assert StudyRecord.model_validate_json((tmp_path / "study.json").read_bytes(), strict=True) == record
    assert record.done == 13  # 6 networks under two seeds, and the one that was refused
