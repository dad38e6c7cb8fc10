"""The gate: budgets against one candidate of a report, as verdicts with reasons and an exit code.

Exact figures (size, parameters, MACs, activation peak, int8 coverage) are compared as numbers. Accuracy is
judged by its measured value, and the reason says when its interval reaches over the budget. Latency is judged by
its ratio to a model that was measured interleaved with it, never by milliseconds. See docs/gate.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .. import errors
from .budgets import Budget
from .paired import accuracy_change
from .records import Accuracy, Candidate, Check, GateVerdict, Latency, Memory, Report
from .units import in_bytes, in_count, in_percent, in_points, in_ratio, ratio_digits, signed

Verdict = Literal["pass", "fail", "unjudged"]
EXACT = ("size", "parameters", "macs", "activation_peak")


@dataclass(frozen=True)
class _Case:
    """What one judgement looks at: a candidate and whatever relative budgets compare it with."""

    report: Report
    candidate: Candidate
    other: Candidate | None
    """None where the baseline has no candidate of that name."""
    baseline: Report | None
    across_environments: bool

    @property
    def missing(self) -> str:
        return (
            f'the baseline report "{self.baseline.name}" has no candidate "{self.candidate.name}"'
            if (self.baseline)
            else "there is no reference"
        )

    @property
    def elsewhere(self) -> str:
        """Why machine-dependent figures cannot be compared with the baseline's; empty when they can."""
        if self.baseline is None or self.across_environments:
            return ""
        here, there = self.report.environment, self.baseline.environment
        if here.fingerprint == there.fingerprint:
            return ""
        return f"the baseline was measured in another environment ({there.cpu}, {there.system})"


def judge(
    report: Report,
    budgets: Sequence[Budget],
    *,
    candidate: str | None = None,
    baseline: Report | None = None,
    across_environments: bool = False,
) -> GateVerdict:
    """Judge one candidate of `report` (the last one unless named) by `budgets`.

    Relative budgets refer to the report's own reference, or with `baseline` to the candidate of the same name
    there. Latency and memory are not compared with a baseline from another environment unless
    `across_environments`. The exit code is 0 when every budget is kept, 1 when one is broken, else 2.
    Raises EdgeLatheError without budgets and for an unknown candidate.
    """
    if not budgets:
        raise errors.reports.no_budgets(f'the report "{report.name}"')
    mine = report.candidates[-1] if candidate is None else _find(report, candidate)
    if mine is None:
        raise errors.inputs.unknown_choice("candidate", str(candidate), [entry.name for entry in report.candidates])
    other = _find(baseline or report, mine.name if baseline else report.reference)
    case = _Case(report, mine, other, baseline, across_environments)
    checks = tuple(check for budget in budgets for check in _judge_budget(budget, case))
    verdicts = {check.verdict for check in checks}
    return GateVerdict(
        candidate=mine.name,
        reference=other.name if other else None,
        checks=checks,
        exit_code=1 if "fail" in verdicts else 2 if "unjudged" in verdicts else 0,
        baseline=baseline.name if baseline else None,
    )


def _find(report: Report, name: str) -> Candidate | None:
    return next((candidate for candidate in report.candidates if candidate.name == name), None)


def _judge_budget(budget: Budget, case: _Case) -> list[Check]:
    if budget.relative and case.other is None:
        return [_check(budget, "-", "unjudged", case.missing)]
    if budget.metric == "latency":
        return _latency(budget, case)
    if budget.metric == "peak_memory":
        return _memory(budget, case)
    if budget.metric in EXACT:
        return [_exact(budget, case)]
    if budget.metric == "int8_coverage":
        return [_coverage(budget, case)]
    if budget.metric == "agreement":
        return [_share(budget, case.candidate.agreement, "agreement with the reference")]
    if budget.kind == "percent":
        return [_share(budget, case.candidate.accuracy, "accuracy")]
    return [_accuracy_change(budget, case)]


def _check(budget: Budget, measured: str, verdict: Verdict, reason: str = "") -> Check:
    return Check(metric=budget.metric, budget=budget.text, measured=measured, verdict=verdict, reason=reason)


def _decided(budget: Budget, value: float) -> Verdict:
    return "pass" if budget.keeps(value) else "fail"


# --- exact figures ------------------------------------------------------------------------------------------


def _figure(candidate: Candidate, metric: str) -> int:
    facts = candidate.facts
    return {
        "size": facts.file_bytes,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "activation_peak": facts.activation_peak,
    }[metric]


def _exact(budget: Budget, case: _Case) -> Check:
    value = _figure(case.candidate, budget.metric)
    of = None if case.other is None else _figure(case.other, budget.metric)
    shown = in_bytes if budget.metric in ("size", "activation_peak") else in_count
    if budget.kind != "ratio":
        return _noted(_over(budget, value, shown(value)), case)
    if not of:
        return _check(budget, shown(value), "unjudged", f"the reference's {budget.metric} is 0")
    return _noted(_over(budget, value / of, f"{in_ratio(value / of)} ({shown(value)} of {shown(of)})"), case)


def _noted(check: Check, case: _Case) -> Check:
    """An exact figure that had to leave something out says so."""
    notes = [note for note in case.candidate.facts.notes if ("activation" in note) == _is_peak(check)]
    if not notes or check.metric not in ("macs", "activation_peak", "int8_coverage"):
        return check
    return check.model_copy(update={"reason": "; ".join(filter(None, [check.reason, *notes]))})


def _is_peak(check: Check) -> bool:
    return check.metric == "activation_peak"


def _over(budget: Budget, value: float, measured: str) -> Check:
    """An exact comparison; a failure says by how much the limit is missed."""
    if budget.keeps(value):
        return _check(budget, measured, "pass")
    if not budget.limit:
        return _check(budget, measured, "fail", "over the budget")
    excess = 100 * (value / budget.limit - 1)
    shown = f"{excess:.1f}" if excess >= 0.05 else "less than 0.1"
    return _check(budget, measured, "fail", f"{shown} % over the budget")


def _coverage(budget: Budget, case: _Case) -> Check:
    def share(candidate: Candidate) -> float | None:
        return 100 * candidate.facts.int8_macs / candidate.facts.macs if candidate.facts.macs else None

    mine = share(case.candidate)
    if mine is None:
        return _check(budget, "-", "unjudged", "the graph has no multiply-accumulates")
    if budget.kind == "percent":
        return _noted(_check(budget, f"{mine:.1f} % of MACs", _decided(budget, mine)), case)
    other = share(case.other) if case.other else None
    if other is None:
        return _check(budget, "-", "unjudged", "the reference has no multiply-accumulates")
    measured = f"{in_points(mine - other)} ({mine:.1f} % of MACs, {other:.1f} % there)"
    return _noted(_check(budget, measured, _decided(budget, mine - other)), case)


# --- accuracy -----------------------------------------------------------------------------------------------


def _share(budget: Budget, found: Accuracy | None, what: str) -> Check:
    if found is None:
        return _check(budget, "-", "unjudged", f"{what} was not measured")
    # Whole-number arithmetic up to one division, so that 910 of 1000 keeps ">= 91 %".
    value = found.correct * 100 / found.total
    measured = f"{in_percent(found.top1, found.total)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    resolution = 50 * (found.high - found.low)
    return _statistical(budget, value, 100 * found.low, 100 * found.high, measured, resolution, found.total)


def _accuracy_change(budget: Budget, case: _Case) -> Check:
    other = case.other
    if other is None or case.candidate.accuracy is None or other.accuracy is None:
        return _check(budget, "-", "unjudged", "accuracy was not measured on both")
    if case.baseline is not None:
        here, there = case.report.data.get("fingerprint"), case.baseline.data.get("fingerprint")
        if here is None or here != there:
            return _check(budget, "-", "unjudged", "the baseline's accuracy was measured on other data")
    change = accuracy_change(case.candidate, other, same_run=case.baseline is None)
    if change is None:
        return _check(budget, "-", "unjudged", "accuracy was not measured on both")
    measured = f"{in_points(change.points)} [{signed(change.low)}, {signed(change.high)}]"
    check = _statistical(budget, change.points, change.low, change.high, measured, change.resolution, change.total)
    if change.paired or not check.reason:
        return check
    return check.model_copy(update={"reason": check.reason + " (images not paired, so the interval is wide)"})


def _statistical(
    budget: Budget, value: float, low: float, high: float, measured: str, resolution: float, total: int
) -> Check:
    """Judge by the measured value; where the interval holds the limit say what the images can tell."""
    verdict = _decided(budget, value)
    if budget.keeps(low) == budget.keeps(high):
        return _check(budget, measured, verdict)
    limits = f"{total} images tell differences of about {resolution:.1f} pt apart"
    reach = "the interval reaches below the budget" if verdict == "pass" else "the interval includes the budget"
    return _check(budget, measured, verdict, f"{reach}: {limits}")


# --- machine-dependent figures ------------------------------------------------------------------------------


def _latency(budget: Budget, case: _Case) -> list[Check]:
    records = case.candidate.latency
    if not records:
        return [_check(budget, "-", "unjudged", "latency was not measured")]
    checks = []
    for record in records:
        setting = f", {record.runtime} x{record.threads} batch {record.batch}" if len(records) > 1 else ""
        checks.append(_one_latency(budget, case, record, setting))
    return checks


def _one_latency(budget: Budget, case: _Case, record: Latency, setting: str) -> Check:
    if case.elsewhere:
        return _check(budget, f"-{setting}", "unjudged", case.elsewhere)
    if record.unstable:
        measured = f"{in_ratio(record.ratio)}{setting}"
        return _check(budget, measured, "unjudged", f"unstable measurement: {'; '.join(record.unstable)}")
    if record.reference != case.report.reference:
        why = f'it was measured against "{record.reference}", not the reference "{case.report.reference}"'
        return _check(budget, f"-{setting}", "unjudged", why)
    ratio, low, high = record.ratio, record.ratio_low, record.ratio_high
    if case.baseline is not None:
        there, why = _baseline_latency(case, record)
        if there is None:
            return _check(budget, f"-{setting}", "unjudged", why)
        ratio, low, high = _quotient(record, there)
    measured = f"{in_ratio(ratio)} [{ratio_digits(low)}, {ratio_digits(high)}]{setting}"
    if high <= budget.limit:
        return _check(budget, measured, "pass")
    if low > budget.limit:
        return _check(budget, measured, "fail", "the whole interval is over the budget")
    return _check(
        budget,
        measured,
        _decided(budget, ratio),
        "the interval includes the budget, so the measured value decides: measure longer to be sure",
    )


def _baseline_latency(case: _Case, record: Latency) -> tuple[Latency | None, str]:
    """The baseline's record under the same setting, if both were measured beside the same network."""
    baseline, other = case.baseline, case.other
    if baseline is None or other is None:
        return None, case.missing
    setting = (record.runtime, record.threads, record.batch)
    there = next((r for r in other.latency if (r.runtime, r.threads, r.batch) == setting), None)
    if there is None:
        return None, "the baseline was not measured under this runtime, thread count and batch"
    if there.unstable:
        return None, f"the baseline's measurement is unstable: {'; '.join(there.unstable)}"
    ours, theirs = _find(case.report, record.reference), _find(baseline, there.reference)
    if ours is None or theirs is None or not _same_work(ours, theirs):
        return None, "the two reports were measured beside different reference networks"
    return there, ""


def _same_work(a: Candidate, b: Candidate) -> bool:
    """Whether two files make a runtime do the same work, whatever their weights."""
    return a.facts.sha256 == b.facts.sha256 or (
        (a.facts.ops, a.facts.macs, a.facts.parameters) == (b.facts.ops, b.facts.macs, b.facts.parameters)
    )


def _quotient(a: Latency, b: Latency) -> tuple[float, float, float]:
    """a's ratio over b's, with its interval: both refer to the same network, so machine speed cancels."""
    ratio = a.ratio / b.ratio
    below = math.hypot(math.log(a.ratio / a.ratio_low), math.log(b.ratio_high / b.ratio))
    above = math.hypot(math.log(a.ratio_high / a.ratio), math.log(b.ratio / b.ratio_low))
    return ratio, ratio * math.exp(-below), ratio * math.exp(above)


def _memory(budget: Budget, case: _Case) -> list[Check]:
    records = case.candidate.memory
    if not records:
        return [_check(budget, "-", "unjudged", "peak memory was not measured")]
    return [_one_memory(budget, case, record, len(records) > 1) for record in records]


def _one_memory(budget: Budget, case: _Case, record: Memory, several: bool) -> Check:
    setting = f", {record.runtime} x{record.threads} batch {record.batch}" if several else ""
    measured = in_bytes(record.peak) + setting
    if budget.kind == "bytes":
        return _over(budget, record.peak, measured)
    if case.elsewhere:
        return _check(budget, measured, "unjudged", case.elsewhere)
    key = (record.runtime, record.threads, record.batch)
    others = case.other.memory if case.other else ()
    there = next((m for m in others if (m.runtime, m.threads, m.batch) == key), None)
    if there is None or not there.peak:
        return _check(budget, measured, "unjudged", "the reference's was not measured")
    ratio = record.peak / there.peak
    measured = f"{in_ratio(ratio)} ({in_bytes(record.peak)} of {in_bytes(there.peak)}){setting}"
    return _over(budget, ratio, measured)
