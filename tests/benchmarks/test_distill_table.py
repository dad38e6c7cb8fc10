from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from edgelathe.compress.distill.distill import LOSSES
from edgelathe.compress.distill.weighting.names import WEIGHTINGS
from edgelathe.data import Split

from .distill_table import LABELS, Study, bar_of, cells, parse
from .distill_table_record import markdown


def test_every_loss_and_every_rule_has_a_cell() -> None:
    losses, weightings = cells("losses", 0.5), cells("weightings", 0.5)
    assert [cell.name for cell in losses] == [LABELS, *LOSSES]
    assert {cell.weighting for cell in weightings} == set(WEIGHTINGS)
    assert [cell.alpha for cell in weightings if cell.weighting == "fixed"] == [0.9, 0.7, 0.5, 0.3]
    assert len({cell.name for cell in (*losses, *weightings)}) == len(losses) + len(weightings)


def test_rates_begin_higher_for_random_weights() -> None:
    assert (parse(["losses"]).lr, parse(["weightings"]).lr, parse(["losses", "--lr", "0.3"]).lr) == (0.1, 0.02, 0.3)


def row(name: str, right: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "seed": seed, "right": {"test": right}, **more}


def test_the_bar_is_labels_alone_or_the_best_fixed_share_of_the_same_seed() -> None:
    assert bar_of([row("kd", 9), row(LABELS, 5)], 0)["name"] == LABELS
    rows = [row("fixed-0.9", 3), row("fixed-0.5", 7), row("gap", 9), row("fixed-0.3", 8, seed=1)]
    assert bar_of(rows, 0)["name"] == "fixed-0.5"
    assert bar_of(rows, 1)["name"] == "fixed-0.3"
    assert bar_of([row("gap", 9)], 0)["name"] == "gap"


def test_students_are_compared_image_by_image(tmp_path: Path) -> None:
    given = {"kd": [1, 1, 0, 1], LABELS: [1, 0, 1, 1]}
    for name, found in given.items():
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "test.npy", np.array(found, np.uint8))
    study = Study.__new__(Study)
    study.asked = SimpleNamespace(work=tmp_path)  # type: ignore[assignment]
    study.judged = {"test": Split(np.zeros((4, 1, 1, 3), np.uint8), np.ones(4, np.int64))}
    bar, other = row(LABELS, 3, folder=LABELS), row("kd", 3, folder="kd")
    found = study.against(other, bar, "test")
    assert (found["correct"], found["gained"], found["lost"], found["difference"]) == (3, 1, 1, 0.0)
    rows = [{**one, "bar": LABELS, "against": {"test": study.against(one, bar, "test")}} for one in (bar, other)]
    settings = {
        "table": "losses", "epochs": 1, "images": 4, "batch": 2, "lr": 0.1, "views": 0, "precision": "bf16",
        "teacher": "resnet56",
    }  # fmt: skip
    machine = {"cpu": "a", "cores": 2, "versions": {}}
    text = markdown({"rows": rows, "settings": settings, "environment": machine, "command": "python -m x"})
    assert "| kd | 0 | 75.0 % (30.1\N{EN DASH}95.4) | 0.0 (-60.4 to +60.4) |" in text
    with pytest.raises(FileNotFoundError):
        study.against(row("gap", 1, folder="gap"), bar, "test")
