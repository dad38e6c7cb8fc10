from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.budgets import parse_budgets
from edgelathe.bench.gate import judge
from edgelathe.bench.records import Accuracy, Candidate, Check, GateVerdict, Report
from edgelathe.errors import EdgeLatheError

Edit = Callable[..., Report]
SUBJECT = "int8-pruned"


# float-pruned and int8-pruned of the made-up report differ from float-dense by 2 of 360 images (-0.56 points).


def one(report: Report, metric: str, text: str, **options: object) -> Check:
    checks = verdict(report, metric, text, **options).checks
    assert len(checks) == 1
    return checks[0]


def verdict(report: Report, metric: str, text: str, **options: object) -> GateVerdict:
    return judge(report, parse_budgets({metric: text}), **options)  # type: ignore[arg-type]


def accuracy(correct: int, total: int, low: float, high: float) -> Accuracy:
    return Accuracy(correct=correct, total=total, top1=correct / total, low=low, high=high)


def facts(report: Report, **changed: object) -> dict[str, object]:
    return report.candidates[-1].facts.model_dump() | changed


@pytest.mark.parametrize(
    ("metric", "text", "outcome", "measured", "reason"),
    [
        ("size", "<= 61.2 kB", "pass", "61.2 kB", ""),
        ("size", "<= 61_199 B", "fail", "61.2 kB", "less than 0.1 % over the budget"),
        ("size", "<= 40 kB", "fail", "61.2 kB", "53.0 % over the budget"),
        ("size", "<= 0.2 x", "pass", "0.19 x (61.2 kB of 318 kB)", ""),
        ("size", "<= 0.19 x", "fail", "0.19 x (61.2 kB of 318 kB)", "1.3 % over the budget"),
        ("size", "<= 0 B", "fail", "61.2 kB", "over the budget"),
        ("parameters", "<= 39.4 k", "pass", "39.4 k", ""),
        ("macs", "<= 0.5 x", "pass", "0.49 x (6.01 M of 12.3 M)", ""),
        ("activation_peak", "<= 0.1875 x", "pass", "0.19 x (12.0 kB of 64.0 kB)", ""),
        ("activation_peak", "<= 11 kB", "fail", "12.0 kB", "9.1 % over the budget"),
        ("peak_memory", "<= 1.0 x", "pass", "0.97 x (88.2 MB of 91.0 MB)", ""),
        ("peak_memory", "<= 80 MiB", "fail", "88.2 MB", "5.1 % over the budget"),
        ("int8_coverage", ">= 90 %", "pass", "99.9 % of MACs", ""),
        ("int8_coverage", ">= 99.95 %", "fail", "99.9 % of MACs", ""),
        ("latency", "<= 0.40 x", "pass", "0.38 x [0.37, 0.39]", ""),
        ("latency", "<= 0.36 x", "fail", "0.38 x [0.37, 0.39]", "the whole interval is over the budget"),
        ("accuracy", ">= 90 %", "pass", "97.8 % [95.7, 98.9]", ""),
        ("accuracy", ">= 99 %", "fail", "97.8 % [95.7, 98.9]", ""),
        ("accuracy", ">= -3 pt", "pass", "-0.6 pt [-2.5, +1.2]", ""),
        ("accuracy", ">= 2 pt", "fail", "-0.6 pt [-2.5, +1.2]", ""),
    ],
)
def test_clear_cases(report: Report, metric: str, text: str, outcome: str, measured: str, reason: str) -> None:
    check = one(report, metric, text)
    assert (check.verdict, check.measured, check.reason) == (outcome, measured, reason)
    assert (check.metric, check.budget) == (metric, text)


def test_incomplete_figures_say_so(report: Report, edited: Edit) -> None:
    notes = ("MACs of Einsum are not counted", "the activation peak leaves out 2 tensors of unknown shape")
    partial = edited(SUBJECT, facts=facts(report, notes=notes))
    assert one(partial, "macs", "<= 7 M").reason == notes[0]
    assert one(partial, "int8_coverage", ">= 90 %").reason == notes[0]
    assert one(partial, "activation_peak", "<= 11 kB").reason == f"9.1 % over the budget; {notes[1]}"
    assert one(partial, "size", "<= 1 MB").reason == ""


class TestStatistics:
    def test_latency_in_between_is_decided_by_the_measured_value(self, report: Report) -> None:
        why = "the interval includes the budget, so the measured value decides: measure longer to be sure"
        kept, broken = one(report, "latency", "<= 0.385 x"), one(report, "latency", "<= 0.375 x")
        assert (kept.verdict, kept.reason) == ("pass", why)
        assert (broken.verdict, broken.reason) == ("fail", why)

    def test_accuracy_says_what_the_images_can_tell(self, report: Report) -> None:
        broken = one(report, "accuracy", ">= -0.5 pt")
        assert broken.verdict == "fail"
        assert broken.reason == ("the interval includes the budget: 360 images tell differences of about 1.8 pt apart")
        kept = one(report, "accuracy", ">= -1 pt")
        assert kept.verdict == "pass"
        assert kept.reason == (
            "the interval reaches below the budget: 360 images tell differences of about 1.8 pt apart"
        )

    def test_limits_are_met_exactly(self, edited: Edit) -> None:
        # 910/1000 and a loss of 5 in 1000 are not exact in binary; the budgets written the same way must hold.
        dense = edited("float-dense", accuracy=accuracy(915, 1000, 0.89, 0.93), disagreement_gained=None)
        stripped = [
            entry.model_dump() | {"disagreement_gained": None, "disagreement_lost": None, "classes": ()}
            for entry in dense.candidates
        ]
        stripped[2]["accuracy"] = accuracy(910, 1000, 0.89, 0.93).model_dump()
        exact = Report.model_validate(dense.model_dump() | {"candidates": stripped})
        assert one(exact, "accuracy", ">= 91 %").verdict == "pass"
        assert one(exact, "accuracy", ">= 91.1 %").verdict == "fail"
        assert one(exact, "accuracy", ">= -0.5 pt").verdict == "pass"
        assert one(exact, "accuracy", ">= -0.4 pt").verdict == "fail"
        assert "images not paired" in one(exact, "accuracy", ">= -0.5 pt").reason

    def test_agreement(self, edited: Edit) -> None:
        report = edited(SUBJECT, agreement=accuracy(358, 360, 0.98, 0.9985))
        assert one(report, "agreement", ">= 98 %").verdict == "pass"
        assert one(report, "agreement", ">= 99.9 %").verdict == "fail"


class TestCannotJudge:
    @pytest.mark.parametrize(
        ("metric", "text", "field", "value", "reason"),
        [
            ("accuracy", ">= 91 %", "accuracy", None, "accuracy was not measured"),
            ("accuracy", ">= -1 pt", "accuracy", None, "accuracy was not measured on both"),
            ("agreement", ">= 98 %", "agreement", None, "agreement with the reference was not measured"),
            ("latency", "<= 0.4 x", "latency", (), "latency was not measured"),
            ("peak_memory", "<= 90 MB", "memory", (), "peak memory was not measured"),
        ],
    )
    def test_not_measured(self, edited: Edit, metric: str, text: str, field: str, value: object, reason: str) -> None:
        found = verdict(edited(SUBJECT, **{field: value}), metric, text)
        assert (found.exit_code, found.checks[0].verdict, found.checks[0].reason) == (2, "unjudged", reason)

    def test_unstable_latency(self, report: Report, edited: Edit) -> None:
        shaky = report.candidates[-1].latency[0].model_dump() | {"unstable": ("it drifts", "others ran")}
        check = one(edited(SUBJECT, latency=[shaky]), "latency", "<= 0.9 x")
        assert (check.verdict, check.reason) == ("unjudged", "unstable measurement: it drifts; others ran")

    def test_latency_against_something_else(self, report: Report, edited: Edit) -> None:
        other = report.candidates[-1].latency[0].model_dump() | {"reference": "float-pruned"}
        check = one(edited(SUBJECT, latency=[other]), "latency", "<= 0.9 x")
        assert check.reason == 'it was measured against "float-pruned", not the reference "float-dense"'
        assert check.verdict == "unjudged"

    def test_reference_without_memory(self, edited: Edit) -> None:
        check = one(edited("float-dense", memory=()), "peak_memory", "<= 1 x")
        assert (check.verdict, check.reason) == ("unjudged", "the reference's was not measured")

    def test_no_macs_no_coverage(self, report: Report, edited: Edit) -> None:
        empty = edited(SUBJECT, facts=facts(report, macs=0, int8_macs=0))
        assert one(empty, "int8_coverage", ">= 90 %").verdict == "unjudged"

    def test_reference_of_size_zero(self, report: Report, edited: Edit) -> None:
        nothing = edited("float-dense", facts=facts(report, file_bytes=0))
        assert one(nothing, "size", "<= 1 x").verdict == "unjudged"

    def test_empty_budgets(self, report: Report) -> None:
        with pytest.raises(EdgeLatheError, match='Cannot judge the report "digits-toy": it sets no budget'):
            judge(report, ())

    def test_unknown_candidate_names_the_nearest(self, report: Report) -> None:
        with pytest.raises(EdgeLatheError, match=r'Unknown candidate "int8-prune": did you mean "int8-pruned"\?$'):
            verdict(report, "size", "<= 1 kB", candidate="int8-prune")


class TestExitCode:
    def test_all_kept(self, report: Report) -> None:
        found = judge(report, parse_budgets({"size": "<= 300 kB", "latency": "<= 0.40 x"}))
        assert found.exit_code == 0
        assert (found.candidate, found.reference, found.baseline) == (SUBJECT, "float-dense", None)

    def test_a_broken_budget_outweighs_an_unjudged_one(self, edited: Edit) -> None:
        budgets = parse_budgets({"size": "<= 1 kB", "latency": "<= 0.40 x"})
        found = judge(edited(SUBJECT, latency=()), budgets)
        assert [check.verdict for check in found.checks] == ["fail", "unjudged"]
        assert found.exit_code == 1

    def test_a_named_candidate_is_judged(self, report: Report) -> None:
        found = verdict(report, "size", "<= 100 kB", candidate="float-pruned")
        assert (found.candidate, found.exit_code) == ("float-pruned", 1)

    def test_every_runtime_must_keep_the_budget(self, report: Report, edited: Edit) -> None:
        first = report.candidates[-1].latency[0].model_dump()
        second = first | {"runtime": "openvino", "threads": 2, "ratio": 0.5, "ratio_low": 0.48, "ratio_high": 0.52}
        found = verdict(edited(SUBJECT, latency=[first, second]), "latency", "<= 0.40 x")
        assert [check.verdict for check in found.checks] == ["pass", "fail"]
        assert found.checks[1].measured == "0.50 x [0.48, 0.52], openvino x2 batch 1"
        assert found.exit_code == 1


class TestBaseline:
    def test_relative_budgets_refer_to_the_same_candidate_there(self, report: Report, edited: Edit) -> None:
        grown = edited(SUBJECT, facts=facts(report, file_bytes=62_424))
        found = verdict(grown, "size", "<= 1.01 x", baseline=report)
        assert found.checks[0].measured == "1.02 x (62.4 kB of 61.2 kB)"
        assert (found.exit_code, found.reference, found.baseline) == (1, SUBJECT, "digits-toy")
        assert verdict(grown, "size", "<= 1.02 x", baseline=report).exit_code == 0

    def test_coverage_may_not_fall(self, report: Report, edited: Edit) -> None:
        less = edited(SUBJECT, facts=facts(report, int8_macs=5_400_000))
        check = one(less, "int8_coverage", ">= -1 pt", baseline=report)
        assert check.verdict == "fail"
        assert check.measured == "-10.0 pt (89.9 % of MACs, 99.9 % there)"

    def test_accuracy_with_equal_predictions_is_exactly_equal(self, report: Report) -> None:
        check = one(report, "accuracy", ">= 0 pt", baseline=report)
        assert check.verdict == "pass"
        assert check.measured.startswith("0.0 pt [-1.1, +1.1]")

    def test_accuracy_on_other_data_is_not_compared(self, report: Report) -> None:
        elsewhere = report.model_copy(update={"data": {"name": "digits", "fingerprint": "other"}})
        check = one(report, "accuracy", ">= -1 pt", baseline=elsewhere)
        assert (check.verdict, check.reason) == ("unjudged", "the baseline's accuracy was measured on other data")
        nameless = report.model_copy(update={"data": {}})
        assert one(nameless, "accuracy", ">= -1 pt", baseline=nameless).verdict == "unjudged"

    def test_a_missing_candidate_cannot_be_judged(self, report: Report) -> None:
        baseline = report.model_copy(update={"candidates": report.candidates[:2]})
        found = judge(report, parse_budgets({"size": ["<= 1 x", "<= 300 kB"]}), baseline=baseline)
        assert [check.verdict for check in found.checks] == ["unjudged", "pass"]
        assert found.checks[0].reason == 'the baseline report "digits-toy" has no candidate "int8-pruned"'
        assert (found.exit_code, found.reference) == (2, None)

    def test_machine_dependent_figures_stay_on_their_machine(self, report: Report) -> None:
        other = report.environment.model_copy(update={"fingerprint": "another", "cpu": "Other CPU"})
        baseline = report.model_copy(update={"environment": other})
        why = "the baseline was measured in another environment (Other CPU, Linux 6.1)"
        for metric in ("latency", "peak_memory"):
            check = one(report, metric, "<= 1.05 x", baseline=baseline)
            assert (check.verdict, check.reason) == ("unjudged", why)
            asked = one(report, metric, "<= 1.05 x", baseline=baseline, across_environments=True)
            assert asked.verdict == "pass"
        assert one(report, "peak_memory", "<= 90 MB", baseline=baseline).verdict == "pass"

    def test_latency_is_a_quotient_of_ratios_to_one_network(self, report: Report, edited: Edit) -> None:
        slow = report.candidates[-1].latency[0].model_dump() | {
            "ratio": 0.456,
            "ratio_low": 0.456 / 1.03,
            "ratio_high": 0.456 * 1.04,
        }
        check = one(edited(SUBJECT, latency=[slow]), "latency", "<= 1.05 x", baseline=report)
        # 0.456 / 0.38 = 1.2; log intervals add in squares: below hypot(log 1.03, log 1.03), above (1.04, 1/0.97).
        assert check.measured == "1.20 x [1.15, 1.26]"
        assert check.verdict == "fail"

    def test_latency_needs_the_same_reference_network(self, report: Report, edited: Edit) -> None:
        other = edited("float-dense", facts=facts(report, sha256="9" * 64))
        check = one(report, "latency", "<= 1 x", baseline=other)
        assert check.verdict == "unjudged"
        assert check.reason == "the two reports were measured beside different reference networks"
        retrained = report.candidates[0].facts.model_copy(update={"sha256": "9" * 64})
        assert one(report, "latency", "<= 1.05 x", baseline=edited("float-dense", facts=retrained)).verdict == "pass"

    def test_latency_needs_the_same_setting_and_a_steady_baseline(self, report: Report, edited: Edit) -> None:
        record = report.candidates[-1].latency[0].model_dump()
        threads = edited(SUBJECT, latency=[record | {"threads": 2}])
        assert "not measured under this runtime" in one(report, "latency", "<= 1 x", baseline=threads).reason
        shaky = edited(SUBJECT, latency=[record | {"unstable": ("it drifts",)}])
        reason = one(report, "latency", "<= 1 x", baseline=shaky).reason
        assert reason == "the baseline's measurement is unstable: it drifts"


def test_the_gate_stays_light() -> None:
    code = (
        "import sys; from edgelathe.bench import budgets, gate, report, table;"
        "print([m for m in ('torch', 'matplotlib', 'numpy', 'onnx', 'onnxruntime', 'jinja2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert found.stdout.strip() == "[]"


def test_candidates_are_not_changed(report: Report) -> None:
    before = report.model_dump_json()
    verdict(report, "size", "<= 1 kB")
    assert report.model_dump_json() == before
    assert isinstance(report.candidates[0], Candidate)
