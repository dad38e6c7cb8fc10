from __future__ import annotations

from collections.abc import Callable

from edgelathe.bench import view
from edgelathe.bench.budgets import parse_budgets
from edgelathe.bench.gate import judge
from edgelathe.bench.records import NodeOutcome, Report

Edit = Callable[..., Report]


def test_headline_has_figures_and_intervals(report: Report) -> None:
    assert view.headline(report) == (
        "int8-pruned is 5.2 times smaller than float-dense (61.2 kB), runs in 0.38 of its time "
        "(95 % interval 0.37 to 0.39) and classifies 97.8 % of 360 images right (-0.6 pt, 95 % interval "
        "-2.5 to +1.2)."
    )


def test_headline_is_honest_about_growth_and_noise(report: Report, edited: Edit) -> None:
    facts = report.candidates[2].facts.model_dump() | {"file_bytes": 636_000}
    latency = report.candidates[2].latency[0].model_dump() | {"unstable": ("it drifts",)}
    text = view.headline(edited("int8-pruned", facts=facts, latency=[latency]))
    assert "is 2.0 times larger than float-dense (636 kB)" in text
    assert "measured on an unstable machine" in text


def test_headline_of_a_lone_file(bare_report: Report) -> None:
    assert view.headline(bare_report) == "float-dense takes 318 kB."


def test_rows(report: Report) -> None:
    dense, _, quantized = view.rows(report)
    assert dense.is_reference and dense.change == dense.ratio == dense.size_ratio == ""
    assert (quantized.top1, quantized.top1_interval) == ("97.8 %", "95.7\N{EN DASH}98.9")
    assert (quantized.change, quantized.change_interval) == ("-0.6 pt", "-2.5 to +1.2")
    assert (quantized.size, quantized.size_ratio) == ("61.2 kB", "0.19 x")
    assert (quantized.macs, quantized.parameters) == ("6.01 M", "39.4 k")
    assert (quantized.latency, quantized.ratio) == ("0.156 ms", "0.38 x")
    assert (quantized.peak_memory, quantized.activation_peak) == ("88.2 MB", "12.0 kB")
    assert (dense.int8_share, quantized.int8_share) == ("0 %", "99.9 %")


def test_rows_leave_blank_what_was_not_measured(bare_report: Report) -> None:
    row = view.rows(bare_report)[0]
    assert row.top1 == row.latency == row.peak_memory == ""
    assert row.trusted


def test_verdict_sentences(report: Report, edited: Edit) -> None:
    def sentence(report: Report, **budgets: str) -> str:
        return view.verdict_sentence(judge(report, parse_budgets(budgets)))

    shaky = edited("int8-pruned", latency=())
    assert sentence(report, size="<= 300 kB") == "int8-pruned keeps its budget"
    assert sentence(report, size="<= 300 kB", macs="<= 1 x") == "int8-pruned keeps all 2 budgets"
    assert sentence(report, size="<= 1 kB", macs="<= 1 x") == "int8-pruned breaks 1 of 2 budgets (size)"
    assert sentence(shaky, latency="<= 1 x") == "int8-pruned cannot be judged by 1 of 1 budget (latency)"
    assert sentence(shaky, peak_memory="<= 1 MB", latency="<= 1 x") == (
        "int8-pruned breaks 1 of 2 budgets (peak memory) and cannot be judged by 1 (latency)"
    )


def test_reasons_are_lettered_in_order_of_appearance() -> None:
    found = view.reasons(["x", "", "y", "x"])
    assert (found.letter("x"), found.letter("y"), found.letter("")) == ("a", "b", "")
    assert found.counts == {"x": 2, "y": 1}
    many = view.reasons([str(number) for number in range(30)])
    assert (many.letter("25"), many.letter("26"), many.letter("29")) == ("z", "aa", "ad")


def test_float_operators_without_a_reason_say_so() -> None:
    nodes = (
        NodeOutcome(name="a", op="Conv", outcome="int8", reason=""),
        NodeOutcome(name="b", op="Add", outcome="float", reason=""),
    )
    assert view.named_by_reason(nodes) == {"no reason was recorded": ["b"]}
    assert view.node_reasons(nodes).counts == {"no reason was recorded": 1}


def test_the_judged_candidate_is_the_subject(report: Report) -> None:
    verdict = judge(report, parse_budgets({"size": "<= 1 x"}), candidate="float-pruned")
    judged = report.model_copy(update={"gate": verdict})
    assert view.subject_of(report).name == "int8-pruned"
    assert view.subject_of(judged).name == "float-pruned"
