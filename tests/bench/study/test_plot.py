from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

from edgelathe.bench.study.plot import draw
from edgelathe.bench.study.records import StudyRecord

Make = Callable[..., StudyRecord]
SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> set[str]:
    return {element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")}


def test_panels_series_and_student_are_named(study_record: Make) -> None:
    drawing = draw(study_record())
    assert texts(drawing) >= {
        "net",
        "parameters that are not zero (float)",
        "encoded bytes (float)",
        "latency, share of the float student's (float)",
        "weights, same parameters",
        "weights, same encoded size",
        "random channels",
    }
    assert "encoded bytes (int8)" in texts(draw(study_record(int8=True)))


def test_it_stands_alone_and_is_always_the_same(study_record: Make) -> None:
    drawing = draw(study_record())
    assert drawing == draw(study_record())
    assert "--c1: #2563c9;" in drawing and "prefers-color-scheme: dark" in drawing
    assert drawing.count("http") == 1  # the name of SVG's own namespace


def test_nothing_done_nothing_drawn(study_record: Make) -> None:
    assert draw(study_record(made=())) == ""
    assert draw(study_record(made=study_record().made[:1])) == ""  # a teacher alone
