from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from edgelathe.bench import table
from edgelathe.bench.budgets import parse_budgets
from edgelathe.bench.gate import judge
from edgelathe.bench.records import Report
from rich.console import Console, RenderableType

Edit = Callable[..., Report]


def shown(what: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, legacy_windows=False)
    console.print(what)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_every_figure_fits_eighty_columns(report: Report) -> None:
    text = shown(table.summary_table(report), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for figure in (
        *("float-dense", "reference", "float-pruned", "int8-pruned"),
        *("98.3 %", "96.4\N{EN DASH}99.2", "97.8 %"),
        *("318 kB", "61.2 kB", "0.19 x", "12.3 M", "78.0 k", "6.01 M", "39.4 k"),
        *("0.412 ms", "0.156 ms", "0.38 x", "0.37\N{EN DASH}0.39", "88.2 MB", "12.0 kB"),
        "onnxruntime, 1 thread, batch 1",
    ):
        assert figure in text, figure


def test_summary_ends_with_the_verdict(report: Report) -> None:
    verdict = judge(report, parse_budgets({"size": "<= 1 kB", "macs": "<= 1 x"}))
    text = shown(table.summary(report.model_copy(update={"gate": verdict})), 100)
    assert text.rstrip().endswith("Gate failed: int8-pruned breaks 1 of 2 budgets (size).")
    assert "broken" in text and "kept" in text and "6020.0 % over the budget" in text


@pytest.mark.parametrize(("budget", "word"), [("<= 1 x", "passed"), ("<= 1 kB", "failed")])
def test_verdict_line(report: Report, budget: str, word: str) -> None:
    line = table.verdict_line(judge(report, parse_budgets({"size": budget})))
    assert line.plain.startswith(f"Gate {word}: int8-pruned ")


def test_reasons_take_no_room_where_there_are_none(report: Report) -> None:
    verdict = judge(report, parse_budgets({"size": "<= 1 x"}))
    assert "reason" not in shown(table.gate_table(verdict), 100)


def test_unstable_latency_is_said(report: Report, edited: Edit) -> None:
    record = report.candidates[2].latency[0].model_dump() | {"unstable": ("it drifts by 12 %",)}
    text = shown(table.summary(edited("int8-pruned", latency=[record])), 100)
    assert "unstable" in text
    assert "! Latency of int8-pruned (onnxruntime, 1 thread, batch 1): it drifts by 12 %." in text


def test_several_settings_get_a_table(report: Report, edited: Edit) -> None:
    first = report.candidates[2].latency[0].model_dump()
    second = first | {"runtime": "openvino", "threads": 2, "median_ms": 0.0987}
    text = shown(table.summary(edited("int8-pruned", latency=[first, second])), 80)
    assert "openvino" in text and "2, 1" in text and "0.0987 ms" in text
    assert "openvino" not in shown(table.summary(report), 80)


def test_memory_table(report: Report) -> None:
    text = shown(table.memory_table(report), 100)
    assert "58.0 MB" in text and "85.2 MB" in text and "88.2 MB" in text


def test_names_are_not_markup(report: Report) -> None:
    candidates = list(report.candidates)
    candidates[1] = candidates[1].model_copy(update={"name": "[red]x[/red]"})
    odd = report.model_copy(update={"candidates": tuple(candidates)})
    assert "[red]x[/red]" in shown(table.summary(odd), 120)


def test_bare_report(bare_report: Report) -> None:
    text = shown(table.summary(bare_report), 80)
    assert "float-dense" in text and "318 kB" in text and " ms" not in text
