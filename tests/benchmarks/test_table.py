from __future__ import annotations

from pathlib import Path

import numpy as np
from edgelathe.bench.accuracy import accuracy, agreement
from edgelathe.bench.environment import environment
from edgelathe.bench.records import GraphFacts, Latency

from .calibration_memory import Curves, Point
from .calibration_memory import as_markdown as curves_as_markdown
from .cost import Cost
from .parts import Benchmark, Entry, Part, key_of, read_kept, write_record
from .table import HEADINGS, as_markdown, part_rows

LABELS = np.arange(200) % 10
FLOAT_SAYS = np.where(np.arange(200) < 20, 0, LABELS)
INT8_SAYS = np.where(np.arange(200) < 25, 0, LABELS)


def facts(size: int, sha256: str) -> GraphFacts:
    return GraphFacts(
        file_bytes=size,
        sha256=sha256,
        parameters=1,
        macs=100,
        bytes_by_type={},
        ops={},
        activation_peak=1,
        int8_macs=90,
        opset=18,
        ir_version=8,
        inputs={},
        outputs={},
    )


def latency(ratio: float, unstable: tuple[str, ...] = ()) -> Latency:
    return Latency(
        runtime="onnxruntime",
        threads=1,
        batch=1,
        median_ms=2 * ratio,
        q1_ms=2 * ratio,
        q3_ms=2 * ratio,
        runs=10,
        bursts_ms=(2 * ratio,),
        reference="float",
        ratio=ratio,
        ratio_low=ratio,
        ratio_high=ratio,
        load_ms=1,
        first_ms=1,
        unstable=unstable,
    )


def part() -> Part:
    top1 = accuracy(FLOAT_SAYS, LABELS)
    dense = Entry(
        tool="float", settings="", versions={}, facts=facts(4000, "f"), top1=top1, hard_top1=top1, latency=latency(1.0)
    )
    ours = Entry(
        tool="edgelathe",
        settings="defaults",
        versions={"edgelathe": "1"},
        costs=tuple(Cost(seconds=s, processor_seconds=1, peak_bytes=m * 10**6) for s, m in ((3, 50), (1, 70), (2, 60))),
        facts=facts(1000, "a"),
        top1=accuracy(INT8_SAYS, LABELS),
        hard_top1=accuracy(INT8_SAYS, LABELS),
        agreement=agreement(INT8_SAYS, FLOAT_SAYS),
        snr_db=31.25,
        against_bar=(5, 0),
        latency=latency(0.5, ("other work",)),
    )
    twin = ours.model_copy(update={"tool": "edgelathe again", "against_bar": None})
    failed = Entry(tool="nncf", settings="", versions={}, failure="exit code 1: no")
    return Part(
        key="k",
        network="toy",
        about="published weights toy.th",
        calibration="8 images",
        top1_images="test",
        agreement_images="the 200 JPEGs",
        created="2026-01-01",
        entries=(dense, ours, twin, failed),
    )


def test_float_has_figures_and_the_others_changes_and_shares() -> None:
    dense, ours, _, failed = part_rows(part())
    assert dense == ["toy", "float", "91.0 %", "91.0 %", "", "", "", "2.00 ms", "4.00 kB", "", "", ""]
    assert ours[:7] == ["", "edgelathe", "-2.0 pt", "-2.0 pt", "98.0 %", "31.2 dB", "+5 -0, p 0.062"]
    assert ours[7:] == ["0.500 (0.500\N{EN DASH}0.500) ?", "1.00 kB", "90.0 %", "2.0", "60"]
    assert failed[:3] == ["", "nncf", "failed"]
    assert {len(row) for row in (dense, ours, failed)} == {len(HEADINGS)}


def test_what_a_reader_must_know_stands_beneath_the_table() -> None:
    benchmark = Benchmark(
        command="python -m x",
        created="2026-01-01",
        seed=3,
        environment=environment(),
        missing=("quark",),
        parts=(part(),),
    )
    text = as_markdown(benchmark)
    for sentence in (
        "- toy: published weights toy.th; calibrated on 8 images; top-1 on test; "
        "hard top-1 and agreement on the 200 JPEGs, of which float has 91.0 % right",
        "- toy: 2 doubtful latencies (?), that of edgelathe because other work",
        "- toy: edgelathe again wrote the same bytes as edgelathe",
        "- toy, nncf failed: exit code 1: no",
        "- edgelathe: defaults (edgelathe 1)",
        "- quark: not installed",
        "seed 3",
        "`python -m x`",
    ):
        assert sentence in text


def test_a_part_is_kept_until_something_it_was_made_from_changes(tmp_path: Path) -> None:
    path, made = tmp_path / "toy" / "part.json", part()
    assert read_kept(path, Part, "k") is None
    write_record(path, made)
    assert read_kept(path, Part, "k") == made
    assert read_kept(path, Part, "other") is None
    path.write_text(path.read_text()[:-20])
    assert read_kept(path, Part, "k") is None
    assert key_of(seed=1, limits={"a": 1, "b": 2}) == key_of(limits={"b": 2, "a": 1}, seed=1)
    assert key_of(seed=1) != key_of(seed=2)


def test_curves_have_a_row_per_tool_and_say_what_was_stopped_and_not_tried() -> None:
    cost = Cost(seconds=4, processor_seconds=4, peak_bytes=300_000_000)
    curves = Curves(
        command="python -m x",
        created="2026-01-01",
        seed=0,
        environment=environment(),
        network="toy",
        tools={"edgelathe": "defaults", "other": "Percentile"},
        float_peak_bytes=90_000_000,
        points=(
            Point(key="", tool="edgelathe", images=32, cost=cost),
            Point(key="", tool="other", images=32, cost=None, failure="stopped at 12.0 GB, after 9 s"),
            Point(key="", tool="edgelathe", images=64, cost=cost),
        ),
    )
    lines = curves_as_markdown(curves).splitlines()
    assert lines[0] == "| tool | 32 images | 64 images |"
    assert lines[2:4] == [
        "| edgelathe | 300 (4 s) | 300 (4 s) |",
        "| other | stopped at 12.0 GB, after 9 s | not tried |",
    ]
    verdict = "- edgelathe takes +0 with 64 images compared to 32, and at most 210 more than running the float file"
    assert verdict in lines
