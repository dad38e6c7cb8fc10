from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from edgelathe.bench.budgets import METRICS, parse_budget, parse_budgets, read_budgets
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("metric", "text", "kind", "limit"),
    [
        ("accuracy", ">= -0.5 pt", "points", -0.5),
        ("accuracy", ">=+1pt", "points", 1.0),
        ("accuracy", ">= 91 %", "percent", 91.0),
        ("latency", "<= 0.40 x", "ratio", 0.4),
        ("size", "<= 300 kB", "bytes", 300_000.0),
        ("size", "<=0.3x", "ratio", 0.3),
        ("size", "<= 64 KiB", "bytes", 65_536.0),
        ("size", "<= 0.3 MB", "bytes", 300_000.0),
        ("peak_memory", "<= 80MB", "bytes", 80e6),
        ("activation_peak", " <= 256 kB ", "bytes", 256_000.0),
        ("parameters", "<= 250_000", "count", 250_000.0),
        ("macs", "<= 0.5 M", "count", 500_000.0),
        ("int8_coverage", ">= 90 %", "percent", 90.0),
        ("int8_coverage", ">= -1 pt", "points", -1.0),
        ("agreement", ">= 98 %", "percent", 98.0),
    ],
)
def test_understands(metric: str, text: str, kind: str, limit: float) -> None:
    budget = parse_budget(metric, text)
    assert (budget.metric, budget.kind, budget.limit, budget.text) == (metric, kind, limit, text.strip())
    assert budget.relative == (kind in ("ratio", "points"))


@pytest.mark.parametrize(
    ("metric", "text", "message"),
    [
        (
            "latency",
            "<= 5 ms",
            "Cannot use the budget latency = '<= 5 ms': milliseconds differ from machine to machine, so latency is a "
            'share of the reference\'s; write for example latency = "<= 0.40 x".',
        ),
        (
            "size",
            "300 kB",
            "Cannot use the budget size = '300 kB': it is not a comparison, a number and a unit; write for example "
            'size = "<= 300 kB" or size = "<= 0.3 x".',
        ),
        (
            "size",
            300_000,
            "Cannot use the budget size = 300000: a budget is a text with a comparison, a number and a unit; write for "
            'example size = "<= 300 kB" or size = "<= 0.3 x".',
        ),
    ],
)
def test_refusals_in_full(metric: str, text: object, message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        parse_budget(metric, text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("metric", "text", "why"),
    [
        ("size", ">= 300 kB", "size is held at most a limit, so it takes <="),
        ("accuracy", "<= 90 %", "accuracy is held at least a limit, so it takes >="),
        ("accuracy", ">= 0.9 x", 'the unit "x" does not fit'),
        ("accuracy", ">= 0.9", "the unit is missing"),
        ("size", "<= 300", "the unit is missing"),
        ("size", "<= 300 kilos", 'the unit "kilos" does not fit'),
        ("size", "<= -3 kB", "the limit is negative"),
        ("accuracy", ">= 191 %", "the limit is over 100 %"),
        ("accuracy", ">= -500 pt", "the limit is over 100 points"),
        ("size", "<= nan kB", "it is not a comparison"),
        ("size", "<= inf kB", "it is not a comparison"),
        ("size", "== 3 kB", "it is not a comparison"),
        ("size", "", "it is not a comparison"),
        ("size", "<= \u0663 kB", "it is not a comparison"),
        ("macs", "<= 20 m", 'the unit "m" does not fit'),
    ],
)
def test_refusals(metric: str, text: str, why: str) -> None:
    with pytest.raises(EdgeLatheError, match=re.escape(why)) as caught:
        parse_budget(metric, text)
    assert METRICS[metric].examples[0] in str(caught.value)


def test_every_example_is_valid() -> None:
    for metric, rule in METRICS.items():
        for example in rule.examples:
            assert parse_budget(metric, example).kind in rule.kinds


def test_the_documented_example_is_valid_and_complete() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    assert {budget.metric for budget in parse_budgets(tomllib.loads(example)["gate"])} == set(METRICS)
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(METRICS)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for metric in METRICS:
        try:
            budget = parse_budget(metric, text)
        except EdgeLatheError:
            continue
        assert budget.kind in METRICS[metric].kinds


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(EdgeLatheError, match=r'Unknown gate metric "accurracy": did you mean "accuracy"\?$'):
        parse_budgets({"accurracy": ">= 91 %"})


def test_a_list_holds_several_budgets() -> None:
    both = parse_budgets({"size": ["<= 300 kB", "<= 0.3 x"], "accuracy": ">= 91 %"})
    assert [(budget.metric, budget.kind) for budget in both] == [
        ("size", "bytes"),
        ("size", "ratio"),
        ("accuracy", "percent"),
    ]


@pytest.mark.parametrize("empty", [{}, {"size": []}])
def test_no_budgets_is_an_error(empty: dict[str, object]) -> None:
    with pytest.raises(EdgeLatheError, match="Cannot judge the gate: it sets no budget; add at least one"):
        parse_budgets(empty)


class TestFile:
    @pytest.mark.parametrize(
        "text",
        [
            'size = "<= 300 kB"\n',
            '[gate]\nsize = "<= 300 kB"\n',
            'name = "a recipe"\n[[stages]]\ndo = "quantize"\n[gate]\nsize = "<= 300 kB"\n',
        ],
    )
    def test_top_level_gate_table_or_recipe(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "budget.toml"
        path.write_text(text)
        assert [budget.limit for budget in read_budgets(path)] == [300_000.0]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"size = ", "it is not valid TOML"),
            (b"\xff\xfe", "it is not valid TOML"),
            (b"gate = 3\n", "its gate is not a table"),
            (b"[gate]\n", "it sets no budget"),
            (b"", "it sets no budget"),
            (b'[gate]\nsise = "<= 3 kB"\n', 'did you mean "size"?'),
        ],
    )
    def test_bad_files(self, tmp_path: Path, content: bytes, why: str) -> None:
        path = tmp_path / "budget.toml"
        path.write_bytes(content)
        with pytest.raises(EdgeLatheError, match=re.escape(why)):
            read_budgets(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeLatheError, match="there is no such file"):
            read_budgets(tmp_path / "none.toml")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeLatheError, match="Cannot read the budgets"):
            read_budgets(tmp_path)
