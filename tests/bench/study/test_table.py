from __future__ import annotations

from collections.abc import Callable

from edgelathe.bench.study.records import LatencyRatio, StudyRecord
from edgelathe.bench.study.rows import rows
from edgelathe.bench.study.table import HEADINGS, cells, markdown, notes

Make = Callable[..., StudyRecord]


def test_a_row_as_people_read_it(study_record: Make) -> None:
    record = study_record()
    assert cells(rows(record)[4], record) == {
        "network": "weights 50 %, same encoded size",
        "top-1, % (95 %)": "95.1 (93.6\N{EN DASH}96.3)",
        "retention": "0.991",
        "not zero": "23.4 k",
        "compression": "4.27 x",
        "PE": "4.23",
        "rank": "1",
        "PE of bytes": "3.96",
        "MACs": "1.00 M",
        "file": "105 kB",
        "encoded": "100 kB",
        "packed": "100 kB",
        "latency (95 %)": "0.98 (0.93\N{EN DASH}1.03)",
    }


def test_seeds_are_said_or_their_absence(study_record: Make) -> None:
    assert "One seed (0)" in markdown(study_record())
    page = markdown(study_record(seeds=3))
    assert "3 seeds (0, 1, 2)" in page and "One seed" not in page
    assert "| 96.0 ± 1.0 (" in page


def test_the_page_says_what_is_done_and_what_was_refused(study_record: Make) -> None:
    page = markdown(study_record())
    assert "7 of 8 networks are done" in page
    assert "- net-channels-1-seed0: too few are left" in page
    assert "reconstruction" in page and "at most 1.5 points" in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 6 and {line.count("|") for line in lines} == {len(HEADINGS) + 1}


def test_doubts_about_latency_are_marked_and_said(study_record: Make) -> None:
    record = study_record()
    doubted = LatencyRatio(
        runtime="onnxruntime", threads=1, batch=1, ratio=0.6, low=0.5, high=0.7, unstable=("other work was running",)
    )
    made = [each.model_copy(update={"latency": doubted}) for each in record.made[2:3]]
    page = markdown(record.model_copy(update={"made": (*record.made[:2], *made)}))
    assert "0.60* (0.50\N{EN DASH}0.70)" in page and "Ratios marked *" in page
    assert "*" not in markdown(record)


def test_several_machines_are_said(study_record: Make) -> None:
    record = study_record()
    other = record.environments[0].model_copy(update={"fingerprint": "def"})
    assert not any("same machine" in note for note in notes(record))
    assert any(
        "same machine" in note
        for note in notes(record.model_copy(update={"environments": (*record.environments, other)}))
    )
