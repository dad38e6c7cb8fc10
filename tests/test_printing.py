from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from edgelathe import verbs
from edgelathe.compress.quantize.audit import Audit
from edgelathe.compress.quantize.placing.placement import NodePlan
from edgelathe.compress.quantize.plan import QuantPlan
from edgelathe.compress.quantize.quantize import Quantized
from edgelathe.dryrun import Plan, Step
from edgelathe.printing import PRINTERS, print_quantized, print_record

VERBS = ("benchmark", "explain", "inspect", "gate", "report", "doctor", "plan")


def test_every_record_that_a_verb_returns_can_be_printed() -> None:
    returned = {inspect.signature(getattr(verbs, verb)).return_annotation for verb in VERBS}
    assert returned == {record.__name__ for record in PRINTERS}


def test_a_plan_leaves_unknown_figures_empty(capsys: pytest.CaptureFixture[str]) -> None:
    steps = (
        Step(what="load net", parameters=1_500, macs=2_000_000),
        Step(what="quantize [/odd]", parameters=1_500, macs=2_000_000, file_bytes=3_000),
    )
    print_record(Plan(name="[toy]", steps=steps, note="10 [red]images[/red]."))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "[toy]"
    assert [line.split() for line in lines if line[:1].isdigit()] == [
        ["1", "load", "net", "1.50", "k", "2.00", "M"],
        ["2", "quantize", "[/odd]", "1.50", "k", "2.00", "M", "3.00", "kB"],
        ["10", "[red]images[/red]."],
    ]


def test_what_stays_float_is_listed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = (
        NodePlan("[/conv]", "Conv", "int8", ""),
        NodePlan("[bold]soft", "Softmax", "float", "it has [no] int8 form"),
    )
    plan = QuantPlan.__new__(QuantPlan)
    print_quantized(Quantized(plan, Audit("onnxruntime 1", nodes, ()), (), 5), Path("[b]x.onnx"))
    out = capsys.readouterr().out
    assert "[b]x.onnx: 1 of 1 convolutions and 1 of 2 operators in int8" in " ".join(out.split())
    assert "[/conv]" not in out
    assert " ".join(out.splitlines()[-2].split()) == "[bold]soft Softmax it has [no] int8 form"
