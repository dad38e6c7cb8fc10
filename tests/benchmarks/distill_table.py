"""Students of the published ResNet-56 on CIFAR-10: by loss, and by the rule that weighs teacher against label.

    python -m tests.benchmarks.distill_table losses
    python -m tests.benchmarks.distill_table weightings --epochs 4 --only "fixed*" confidence

losses      ResNet-20 from random weights, from labels alone and with every loss, on train-0 to train-3. Judged on
            train-4, which no student has seen and its teacher has, and on 1,000 test images, which neither has.
weightings  the published ResNet-32 with half of its MACs removed by FPGM, the same channels in every cell, with every
            rule and with fixed shares, on all five files; judged on the 1,000 test images.

All cells of a table have the same images, augmentations and schedule. Run it from the root of the repository with the
folder of test data in EDGELATHE_TEST_DATA. Cells that are done are kept in --work, and one that was interrupted
continues after its last epoch: give the same command again.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from edgelathe import __version__
from edgelathe.bench.environment import environment
from edgelathe.compress.batchnorm import likeliest_augment, reestimate_batch_norm
from edgelathe.compress.distill.distill import LOSSES, distill
from edgelathe.compress.distill.weighting.names import WEIGHTINGS
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.train import TrainResult, train
from edgelathe.data import Dataset, Split, load_data
from edgelathe.files import sha256_bytes, write_atomic
from edgelathe.models import zoo
from torch import nn

from .command import data_folder, end_well, now, portable_command, say
from .distill_table_record import markdown
from .networks import CIFAR10, NETWORKS
from .prune_curve import answers, compared
from .pruned_latency import build

TEACHER, PRUNED, SCRATCH = "resnet56", "resnet32", "cifar_resnet20"
HELD_OUT = 10_000
"""Images of train-4, the last of the training images."""
LABELS = "labels"
SHARES = (0.3, 0.5, 0.7, 0.9)
DYNAMIC_ALPHA = 0.5
"""Of the rules that score images: it leaves them room on both sides of it."""


@dataclass(frozen=True)
class Cell:
    name: str
    loss: str = "kd"
    weighting: str = "fixed"
    alpha: float | None = None
    warmup: float = 0.0


def cells(table: str, warmup: float) -> list[Cell]:
    """The first is what the others are compared with."""
    if table == "losses":
        steep = {"fitnets", "rkd", "attention"}
        return [
            Cell(LABELS, warmup=warmup),
            *(Cell(loss, loss, warmup=max(warmup, 1.0) if loss in steep else warmup) for loss in LOSSES),
        ]
    scored = [rule for rule in WEIGHTINGS if rule != "fixed"]
    return [
        *(Cell(f"fixed-{share:g}", alpha=share, warmup=warmup) for share in sorted(SHARES, reverse=True)),
        *(Cell(rule, weighting=rule, alpha=DYNAMIC_ALPHA, warmup=warmup) for rule in scored),
    ]


class Study:
    """What the cells of one table share."""

    def __init__(self, table: str, asked: argparse.Namespace) -> None:
        self.asked, self.table = asked, table
        data = load_data("cifar10", data_folder() / "cifar10")
        assert data.train is not None
        self.teacher, self.teacher_preprocess = build(NETWORKS[TEACHER])[0], NETWORKS[TEACHER].preprocess
        self.judged: dict[str, Split] = {"test": data.test}
        if table == "losses":
            seen, held = data.train[: len(data.train) - HELD_OUT], data.train[len(data.train) - HELD_OUT :]
            self.judged["train-4"] = held
            self.preprocess = CIFAR10
        else:
            seen, self.preprocess = data.train, NETWORKS[PRUNED].preprocess
        few = seen.take(min(asked.images, len(seen)), 0)
        self.data = Dataset(data.name, few, data.test, data.classes, self.preprocess)
        self.settings = {
            "table": table, "data": self.data.fingerprint, "teacher": TEACHER,
            **{key: getattr(asked, key) for key in ("images", "epochs", "batch", "lr", "views", "precision")},
        }  # fmt: skip

    def student(self, seed: int) -> nn.Module:
        if self.table == "losses":
            torch.manual_seed(seed)
            return zoo.build(SCRATCH, num_classes=10, in_channels=3)
        whole = build(NETWORKS[PRUNED])[0].eval()
        pruned, _ = prune_channels(whole, torch.zeros(1, *self.data.shape), criterion="fpgm", keep_macs=0.5)
        kind = likeliest_augment(whole, self.data, self.preprocess, seed=0)
        reestimate_batch_norm(pruned, self.data, self.preprocess, augmented=kind, seed=0)
        return pruned

    def row(self, cell: Cell, seed: int) -> dict[str, Any]:
        settings = {**self.settings, "seed": seed, **cell.__dict__}
        folder = self.asked.work / f"{self.table}-{cell.name}-{seed}-{_key(settings)}"
        path = folder / "row.json"
        if not path.exists():
            say(f"{self.table}: {cell.name}, seed {seed} ...")
            write_atomic(path, json.dumps(self._row(cell, seed, folder), indent=1) + "\n", "the figures of a student")
        return cast(dict[str, Any], json.loads(path.read_text()))

    def _row(self, cell: Cell, seed: int, folder: Path) -> dict[str, Any]:
        student, asked = self.student(seed), self.asked
        result = self._trained(student, cell, seed, folder)
        given = {name: answers(student, split, self.preprocess) for name, split in self.judged.items()}
        for name, found in given.items():
            np.save(folder / f"{name}.npy", found.astype(np.uint8))
        return {
            "name": cell.name, "loss": cell.loss, "weighting": cell.weighting, "alpha": cell.alpha, "seed": seed,
            "folder": folder.name, "epochs": asked.epochs,
            "right": {name: int((found == self.judged[name].y).sum()) for name, found in given.items()},
            "last_epoch": {"loss": result.epochs[-1].loss, "train_accuracy": result.epochs[-1].train_accuracy},
            "images_per_second": [round(epoch.images_per_second, 1) for epoch in result.epochs],
            "objective": dict(result.objective),
        }  # fmt: skip

    def _trained(self, student: nn.Module, cell: Cell, seed: int, folder: Path) -> TrainResult:
        asked = self.asked
        schedule: dict[str, Any] = {
            "epochs": asked.epochs, "batch": asked.batch, "lr": asked.lr, "warmup": cell.warmup, "schedule": "cosine",
            "augment": "crop-flip", "views": asked.views, "precision": asked.precision, "compiled": asked.compiled,
            "seed": seed, "threads": asked.threads, "state": folder, "progress": asked.progress,
        }  # fmt: skip
        if cell.name == LABELS:
            return train(student, self.data, preprocess=self.preprocess, **schedule)
        return distill(
            student, self.teacher, self.data, preprocess=self.preprocess, teacher_preprocess=self.teacher_preprocess,
            loss=cast(Any, cell.loss), weighting=cast(Any, cell.weighting), alpha=cell.alpha,
            answers_in=asked.work / "teacher-answers", **schedule,
        )  # fmt: skip

    def against(self, row: Mapping[str, Any], bar: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Accuracy on the images `name`, and its difference from that of `bar` on the same images."""
        found, reference = (np.load(self.asked.work / one["folder"] / f"{name}.npy") for one in (row, bar))
        return compared(found, reference, self.judged[name].y)


def _key(settings: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(settings, sort_keys=True).encode())[:8]


def bar_of(rows: Sequence[Mapping[str, Any]], seed: int) -> Mapping[str, Any]:
    """What the others are compared with: labels alone, or the fixed share that got most test images right."""
    mine = [row for row in rows if row["seed"] == seed and (row["name"] == LABELS or row["name"].startswith("fixed"))]
    return max(mine or [row for row in rows if row["seed"] == seed], key=lambda row: row["right"]["test"])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.distill_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Callable[..., Any] = parser.add_argument
    add("table", choices=["losses", "weightings"])
    add("--only", nargs="+", default=["*"], help='patterns of cells, like "fixed*"')
    add("--images", type=int, default=50_000, help="training images, each class in its share")
    add("--epochs", type=int, default=10)
    add("--batch", type=int, default=128)
    add("--lr", type=float, default=None, help="of the first step; default 0.1 for losses, 0.02 for weightings")
    add("--warmup", type=float, default=0.5, help="epochs")
    add("--views", type=int, default=0, help="sets of augmentations that take turns; 0: every epoch anew")
    add("--precision", choices=["float32", "bf16"], default="bf16")
    add("--compiled", action="store_true")
    add("--threads", type=int, default=None)
    add("--seeds", nargs="+", type=int, default=[0])
    add("--work", type=Path, default=Path("runs/distill-table"), help="folder of what is done")
    add("--out", type=Path, default=Path("results/distill"), help="folder of the record")
    add("--progress", action="store_true")
    asked = parser.parse_args(arguments)
    asked.lr = asked.lr or (0.1 if asked.table == "losses" else 0.02)
    return asked


def run(asked: argparse.Namespace, command: str) -> int:
    study = Study(asked.table, asked)
    planned = [
        cell for cell in cells(asked.table, asked.warmup) if any(fnmatch.fnmatch(cell.name, p) for p in asked.only)
    ]
    rows = [study.row(cell, seed) for seed in asked.seeds for cell in planned]
    for row in rows:
        row["against"] = {name: study.against(row, bar_of(rows, row["seed"]), name) for name in study.judged}
        row["bar"] = bar_of(rows, row["seed"])["name"]
    record = {
        "command": command, "created": now(), "tool_version": __version__, "settings": study.settings,
        "environment": environment().model_dump(mode="json"), "rows": rows,
    }  # fmt: skip
    write_atomic(asked.out / f"{asked.table}.json", json.dumps(record, indent=1) + "\n", "the table's figures")
    write_atomic(asked.out / f"{asked.table}.md", markdown(record), "the table")
    sys.stdout.write(markdown(record))
    return 0


def main(arguments: Sequence[str]) -> int:
    return end_well(lambda: run(parse(arguments), portable_command("tests.benchmarks.distill_table", arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
