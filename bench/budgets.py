"""Budgets as people write them ("<= 300 kB", ">= -0.5 pt") turned into numbers the gate can judge.

A budget is a comparison, a number and a unit. The unit decides what it is compared with: `x` is a share of
the reference's figure and `pt` a difference from it in percentage points; every other unit is absolute.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from .. import errors

Kind = Literal["ratio", "points", "percent", "bytes", "count"]

_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_TIMES = ("ns", "us", "ms", "s", "sec", "seconds")
_SHAPE = re.compile(r"\s*(<=|>=)\s*([+-]?\d+(?:_\d+)*(?:\.\d+)?)\s*([A-Za-z%]*)\s*", re.ASCII)


@dataclass(frozen=True)
class Metric:
    """What can be budgeted: the only sensible direction, the kinds of units, and valid examples."""

    comparison: Literal["<=", ">="]
    kinds: tuple[Kind, ...]
    examples: tuple[str, ...]


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(">=", ("points", "percent"), (">= -0.5 pt", ">= 91 %")),
    "agreement": Metric(">=", ("percent",), (">= 98 %",)),
    "latency": Metric("<=", ("ratio",), ("<= 0.40 x",)),
    "size": Metric("<=", ("bytes", "ratio"), ("<= 300 kB", "<= 0.3 x")),
    "peak_memory": Metric("<=", ("ratio", "bytes"), ("<= 1.0 x", "<= 80 MB")),
    "activation_peak": Metric("<=", ("bytes", "ratio"), ("<= 256 kB", "<= 0.5 x")),
    "parameters": Metric("<=", ("count", "ratio"), ("<= 250 k", "<= 0.5 x")),
    "macs": Metric("<=", ("count", "ratio"), ("<= 20 M", "<= 0.5 x")),
    "int8_coverage": Metric(">=", ("percent", "points"), (">= 90 %", ">= -1 pt")),
}


@dataclass(frozen=True)
class Budget:
    metric: str
    kind: Kind
    limit: float
    """Bytes, count, ratio, percent or percentage points, as `kind` says."""
    text: str
    """The budget as it was written."""

    @property
    def relative(self) -> bool:
        return self.kind in ("ratio", "points")

    def keeps(self, value: float) -> bool:
        """Whether `value`, in the unit of `limit`, is within the budget."""
        return value <= self.limit if METRICS[self.metric].comparison == "<=" else value >= self.limit


def parse_budget(metric: str, text: object) -> Budget:
    """One budget. Raises EdgeLatheError with a valid example where it cannot mean anything."""
    if metric not in METRICS:
        raise errors.inputs.unknown_choice("gate metric", metric, METRICS)
    rule = METRICS[metric]

    def refused(why: str) -> errors.EdgeLatheError:
        return errors.reports.bad_budget(metric, text, why, rule.examples)

    if not isinstance(text, str):
        raise refused("a budget is a text with a comparison, a number and a unit")
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise refused("it is not a comparison, a number and a unit")
    comparison, number, unit = match.groups()
    if metric == "latency" and unit in _TIMES:
        raise refused("milliseconds differ from machine to machine, so latency is a share of the reference's")
    kind, scale = _unit(unit, rule.kinds)
    if kind is None:
        raise refused(f'the unit "{unit}" does not fit' if unit else "the unit is missing")
    if comparison != rule.comparison:
        wanted = "at most" if rule.comparison == "<=" else "at least"
        raise refused(f"{metric} is held {wanted} a limit, so it takes {rule.comparison}")
    limit = float(Decimal(number.replace("_", "")) * scale)
    if kind != "points" and limit < 0:
        raise refused("the limit is negative")
    if kind == "percent" and limit > 100:
        raise refused("the limit is over 100 %")
    if kind == "points" and abs(limit) > 100:
        raise refused("the limit is over 100 points")
    return Budget(metric, kind, limit, text.strip())


def _unit(unit: str, kinds: tuple[Kind, ...]) -> tuple[Kind | None, int]:
    if unit == "x" and "ratio" in kinds:
        return "ratio", 1
    if unit == "pt" and "points" in kinds:
        return "points", 1
    if unit == "%" and "percent" in kinds:
        return "percent", 1
    if unit.lower() in _BYTES and "bytes" in kinds:
        return "bytes", _BYTES[unit.lower()]
    if unit in _COUNTS and "count" in kinds:
        return "count", _COUNTS[unit]
    return None, 1


def parse_budgets(budgets: Mapping[str, object], where: str = "the gate") -> tuple[Budget, ...]:
    """All budgets of a [gate] table: metric -> text, or a list of texts that must all hold.

    Raises EdgeLatheError for an unknown metric (naming the nearest), a budget without meaning (with a valid
    example), and a table without budgets.
    """
    parsed: list[Budget] = []
    for metric, texts in budgets.items():
        several: Iterable[object] = texts if isinstance(texts, list | tuple) else (texts,)
        parsed.extend(parse_budget(metric, text) for text in several)
    if not parsed:
        raise errors.reports.no_budgets(where)
    return tuple(parsed)


def read_budgets(path: Path) -> tuple[Budget, ...]:
    """The budgets of a TOML file: its [gate] table (a recipe will do), or its top level where it has none."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        raise errors.inputs.missing_file("the budgets", path) from reason
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise errors.inputs.unreadable_file("the budgets", path, why, "check the path") from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as reason:
        why = f"it is not valid TOML ({reason})"
        raise errors.inputs.unreadable_file("the budgets", path, why, "mend that line") from reason
    gate = document.get("gate", document)
    if not isinstance(gate, dict):
        raise errors.inputs.unreadable_file("the budgets", path, "its gate is not a table", "write [gate]")
    return parse_budgets(gate, where=f"by {path}")
