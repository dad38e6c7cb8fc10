from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest
from edgelathe.bench import plots as module
from edgelathe.bench.plots import plots
from edgelathe.bench.records import Report
from edgelathe.bench.svg import Plot

Edit = Callable[..., Report]
Drawn = dict[str, list[Plot]]


def texts(fragment: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(fragment).iter("text")]


@pytest.fixture(scope="module")
def drawn(report: Report) -> Drawn:
    return plots(report)


def test_all_plots_of_a_full_report(drawn: Drawn) -> None:
    assert [plot.title for plot in drawn["tradeoff"]] == ["Accuracy over latency", "Accuracy over size"]
    assert [plot.title for plot in drawn["latency"]] == ["Latency distribution", "Steadiness while measuring"]
    assert [plot.title for plot in drawn["curves"]] == ["1. train", "3. distill"]
    assert [plot.title for plot in drawn["shares"]] == ["3. distill"]


def test_points_and_lines_are_labelled_directly(drawn: Drawn) -> None:
    for plot in (*drawn["tradeoff"], *drawn["latency"]):
        assert {"float-dense", "float-pruned", "int8-pruned"} <= set(texts(plot.svg)), plot.title
    assert {"0.412 ms", "0.247 ms", "0.156 ms"} <= set(texts(drawn["latency"][0].svg))
    assert "1 thread" in drawn["tradeoff"][0].note


def test_ticks_have_units(drawn: Drawn) -> None:
    latency, size = drawn["tradeoff"]
    assert {"0", "0.1 ms", "0.4 ms"} <= set(texts(latency.svg))
    assert {"0", "100 kB", "300 kB"} <= set(texts(size.svg))


def test_wide_ranges_are_logarithmic(report: Report, edited: Edit) -> None:
    facts = report.candidates[2].facts.model_dump() | {"file_bytes": 3_180}
    ticks = set(texts(plots(edited("int8-pruned", facts=facts))["tradeoff"][1].svg))
    assert {"3 kB", "10 kB", "100 kB"} <= ticks and "0" not in ticks


def test_every_setting_has_its_own_plots(report: Report, edited: Edit) -> None:
    first = report.candidates[2].latency[0].model_dump()
    second = first | {"runtime": "openvino", "threads": 2, "unstable": ("it drifts",)}
    drawn = plots(edited("int8-pruned", latency=[first, second]))
    assert len(drawn["tradeoff"]) == 3 and len(drawn["latency"]) == 4
    assert "openvino, 2 threads" in drawn["latency"][2].note
    assert "int8-pruned (unstable)" in texts(drawn["latency"][3].svg)


def test_nothing_measured_nothing_drawn(bare_report: Report) -> None:
    assert plots(bare_report) == {"tradeoff": [], "latency": [], "curves": [], "shares": []}


def test_one_burst_can_be_drawn(report: Report, edited: Edit) -> None:
    record = report.candidates[0].latency[0].model_dump() | {"bursts_ms": (0.4,)}
    assert len(plots(edited("float-dense", latency=[record]))["latency"]) == 2


def test_same_report_same_plots(report: Report, drawn: Drawn) -> None:
    assert plots(report) == drawn


@pytest.mark.parametrize(("value", "rounded"), [(6.25, 5.0), (60.0, 20.0), (1.3, 1.0), (25.1, 20.0), (63, 50.0)])
def test_round_limits(value: float, rounded: float) -> None:
    assert module._round(value) == pytest.approx(rounded)


def test_long_names_give_way_in_the_middle() -> None:
    short = module._short("a-very-long-name-of-a-network-float32")
    assert len(short) <= 28 and short.startswith("a-very-long-n") and short.endswith("float32")
    assert module._short("int8") == "int8"
