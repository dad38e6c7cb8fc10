from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from edgelathe.data import Dataset, Preprocess, Split
from torch import Tensor, nn

from .prune_curve import Cell, Recovery, Study, cells, chosen, compared, parse
from .prune_curve_record import markdown, write_record

PREPROCESS = Preprocess((0.5,) * 3, (0.25,) * 3)
RECOVERY = Recovery(
    images=64, epochs=1, batch=16, lr=0.05, alpha=0.9, temperature=4.0, precision="float32", seed=3
)  # fmt: skip
CELL = Cell("random", "uniform", 0.5)


class Counting(nn.Module):
    """A teacher that knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.asked = nn.Linear(12, 2), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked += 1
        answers: Tensor = self.layer(inputs.flatten(1))
        return answers


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    ).eval()  # fmt: skip


def dataset() -> Dataset:
    random = np.random.default_rng(1)
    y = np.arange(128) % 2
    x = (random.integers(0, 100, (128, 8, 8, 3)) + 100 * y[:, None, None, None]).astype(np.uint8)
    return Dataset("toy", Split(x[:96], y[:96]), Split(x[96:], y[96:]), ("dark", "light"), PREPROCESS)


def study(work: Path, recovery: Recovery = RECOVERY) -> Study:
    return Study(network(), dataset(), PREPROCESS, recovery, work)


def test_cells_are_criteria_at_shares() -> None:
    planned = cells(["l1", "taylor:global"], [0.5, 0.25])
    names = ["l1-0.5", "taylor-global-0.5", "l1-0.25", "taylor-global-0.25"]
    assert [cell.name for cell in planned] == names
    assert [cell.name for cell in chosen(planned, ["*-0.25", "l1-*"])] == [names[0], *names[2:]]


def test_answers_are_compared_in_pairs() -> None:
    labels, whole = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])
    found = compared(np.array([0, 1, 1, 3]), whole, labels)
    assert (found["correct"], found["gained"], found["lost"]) == (3, 1, 1)
    assert found["difference"] == 0
    assert found["difference_interval"][0] < 0 < found["difference_interval"][1]
    assert found["agreement"] == 0.5
    same = compared(whole, whole, labels)
    assert (same["accuracy"], same["agreement"], same["gained"], same["lost"]) == (0.75, 1, 0, 0)


def test_a_cell_is_done_once_and_anew_under_other_settings(tmp_path: Path) -> None:
    row = study(tmp_path).row(CELL)
    assert row["macs"] <= 0.5 * row["macs_before"]
    assert row["recovered"]["total"] == 32
    (path,) = tmp_path.glob("*/row.json")
    path.write_text(json.dumps({**row, "macs": 1}))
    assert study(tmp_path).row(CELL)["macs"] == 1
    assert study(tmp_path, replace(RECOVERY, lr=0.01)).row(CELL)["macs"] == row["macs"]
    assert len(list(tmp_path.glob("*/row.json"))) == 2


def test_the_teacher_answers_once_for_all_cells(tmp_path: Path) -> None:
    first = study(tmp_path)
    first.row(CELL)
    answers = {path: path.stat().st_mtime_ns for path in (tmp_path / "teacher-answers").rglob("*.npy")}
    first.row(Cell("l1", "uniform", 0.5))
    assert answers
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "teacher-answers").rglob("*.npy")} == answers


def test_the_record_is_complete(tmp_path: Path) -> None:
    toy = study(tmp_path / "work")
    rows = [toy.row(cell) for cell in cells(["l1", "random:global"], [0.5])]
    whole = compared(toy.whole, toy.whole, toy.data.test.y)
    write_record(tmp_path / "out", "toy", whole, rows, toy.settings, "the command")
    record = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert record["settings"]["seed"] == 3
    assert [row["criterion"] for row in record["rows"]] in (["l1", "random"], ["random", "l1"])
    table = (tmp_path / "out" / "curve.md").read_text()
    assert table == markdown(record)
    assert "`the command`, seed 3" in table
    assert "| random, global |" in table
    drawing = ElementTree.parse(tmp_path / "out" / "curve.svg").getroot()
    assert drawing.attrib["aria-label"] == "Accuracy of pruned toy against MACs"


@pytest.mark.parametrize(("arguments", "shares"), [([], [0.48, 0.3, 0.7]), (["--keep", "0.5"], [0.5])])
def test_what_is_asked_for(arguments: list[str], shares: list[float]) -> None:
    asked = parse(arguments)
    assert asked.keep == shares
    assert {"l1", "fpgm", "hrank", "taylor", "random"} == set(asked.criteria)
