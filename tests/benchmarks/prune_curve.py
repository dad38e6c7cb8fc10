"""Accuracy of a pruned ResNet-56 against its MACs, by criterion, all with the same recovery.

    python -m tests.benchmarks.prune_curve
    python -m tests.benchmarks.prune_curve --only "taylor-*" "random-*"

Each cell is a criterion and a share of the MACs. The published CIFAR-10 network is cut in every layer alike, its batch
norms are measured again, and it is distilled from the whole one; all cells see the same images, augmentations and
teacher's answers in the same order. Accuracy is counted on the first 1,000 CIFAR-10 test images, in pairs with the
whole network: its interval is that of the difference on the same images. `criterion:scope` compares channels in
another scope than each layer's own.

Run it from the root of the repository with the folder of test data in EDGELATHE_TEST_DATA. Cells that are done are kept
in --work: the same command continues, and several with other --only may run at once. The record has the cells that the
command names.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from edgelathe.bench.paired import paired_interval
from edgelathe.bench.stats import wilson
from edgelathe.compress.batchnorm import likeliest_augment, reestimate_batch_norm
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.objective import as_tensor, network_inputs
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.criteria import needs_samples
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.plan import Scope
from edgelathe.compress.threads import using_threads
from edgelathe.data import Dataset, Preprocess, Split, load_data
from edgelathe.files import sha256_bytes, write_atomic
from torch import nn

from .command import data_folder, end_well, portable_command, say
from .networks import NETWORKS
from .prune_curve_record import write_record
from .pruned_latency import build

NETWORK = "resnet56"
SAMPLES = 512
"""Training images that criteria look at which look at images."""


@dataclass(frozen=True)
class Cell:
    criterion: str
    scope: Scope
    keep: float

    @property
    def name(self) -> str:
        return "-".join([self.criterion, *([] if self.scope == "uniform" else [self.scope]), f"{self.keep:g}"])


@dataclass(frozen=True)
class Recovery:
    images: int
    epochs: int
    batch: int
    lr: float
    alpha: float
    temperature: float
    precision: Literal["float32", "bf16"]
    seed: int


def cells(criteria: Sequence[str], keep: Sequence[float]) -> list[Cell]:
    """Each `criterion` or `criterion:scope` at every share, in the order of the shares."""
    pairs = [(name.partition(":")[0], name.partition(":")[2] or "uniform") for name in criteria]
    return [Cell(criterion, cast(Scope, scope), share) for share in keep for criterion, scope in pairs]


def answers(model: nn.Module, images: Split, preprocess: Preprocess, batch: int = 250) -> np.ndarray:
    """The class that `model`, in eval mode, gives each image; int64 [N]."""
    pixels = as_tensor(images.x)
    with torch.inference_mode():
        parts = [
            model.eval()(network_inputs(pixels[first : first + batch], preprocess)).argmax(dim=1)
            for first in range(0, len(pixels), batch)
        ]
    return torch.cat(parts).numpy()


def compared(found: np.ndarray, whole: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, its paired difference from the whole network's, and agreement with its answers, as shares."""
    right, was_right, total = found == labels, whole == labels, len(labels)
    gained, lost, same = int((right & ~was_right).sum()), int((~right & was_right).sum()), int((found == whole).sum())
    return {
        "correct": int(right.sum()), "total": total, "accuracy": float(right.mean()),
        "accuracy_interval": wilson(int(right.sum()), total), "gained": gained, "lost": lost,
        "difference": (gained - lost) / total, "difference_interval": paired_interval(gained, lost, total),
        "agreement": same / total, "agreement_interval": wilson(same, total),
    }  # fmt: skip


class Study:
    """The whole network, what it is pruned and recovered on, and what it answers."""

    def __init__(self, model: nn.Module, data: Dataset, preprocess: Preprocess, recovery: Recovery, work: Path) -> None:
        self.model, self.preprocess, self.recovery, self.work = model.eval(), preprocess, recovery, work
        assert data.train is not None
        few = data.train.take(min(recovery.images, len(data.train)), recovery.seed)
        self.data, self.few = data, Dataset(data.name, few, data.test, data.classes, preprocess)
        self.whole = answers(model, data.test, preprocess)
        self.augment = likeliest_augment(model, data, preprocess, seed=recovery.seed)
        self.settings = {
            "network": state_sha256(model), "data": data.fingerprint, "augment": self.augment, "samples": SAMPLES,
            **asdict(recovery),
        }  # fmt: skip

    def row(self, cell: Cell, progress: bool = False) -> dict[str, Any]:
        """What `cell` came to: read if it was done with the same settings, else done."""
        settings = self.settings | asdict(cell)
        folder = self.work / f"{cell.name}-{sha256_bytes(json.dumps(settings, sort_keys=True).encode())[:8]}"
        path = folder / "row.json"
        if not path.exists():
            say(f"{cell.name} ...")
            content = json.dumps(self._row(cell, folder, progress), indent=2) + "\n"
            write_atomic(path, content, "the figures of a pruned network")
        return cast(dict[str, Any], json.loads(path.read_text()))

    def _row(self, cell: Cell, folder: Path, progress: bool) -> dict[str, Any]:
        recovery, seed = self.recovery, self.recovery.seed
        example = torch.zeros(1, *self.data.shape)
        pruned, plan = prune_channels(
            self.model, example, criterion=cell.criterion, scope=cell.scope, keep_macs=cell.keep, seed=seed,
            samples=self._samples() if needs_samples(cell.criterion) else None,
        )  # fmt: skip
        figures = {"cut": self._compared(pruned)}
        reestimate_batch_norm(pruned, self.data, self.preprocess, augmented=self.augment, seed=seed)
        figures["norms"] = self._compared(pruned)
        began = time.perf_counter()
        result = distill(
            pruned, self.model, self.few, preprocess=self.preprocess, teacher_preprocess=self.preprocess,
            weighting="fixed", alpha=recovery.alpha, temperature=recovery.temperature, epochs=recovery.epochs,
            batch=recovery.batch, lr=recovery.lr, schedule="cosine", augment=self.augment,
            views=recovery.epochs, store_answers=True, answers_in=self.work / "teacher-answers",
            precision=recovery.precision, seed=seed, threads=1, state=folder, progress=progress,
        )  # fmt: skip
        figures["recovered"] = self._compared(pruned)
        say(f"{cell.name}: {figures['recovered']['correct']} right, {time.perf_counter() - began:.0f} s of recovery")
        return {
            "name": cell.name, **asdict(cell), "macs_before": plan.macs_before, "macs": plan.macs_after,
            "parameters_before": plan.parameters_before, "parameters": plan.parameters_after, **figures,
            "last_epoch_loss": result.epochs[-1].loss,
            "images_per_second": [round(epoch.images_per_second, 1) for epoch in result.epochs],
        }  # fmt: skip

    def _samples(self) -> Samples:
        images = self.data.calibration(SAMPLES, self.recovery.seed)
        return Samples(torch.from_numpy(self.preprocess(images.x)), torch.from_numpy(images.y))

    def _compared(self, model: nn.Module) -> dict[str, Any]:
        return compared(answers(model, self.data.test, self.preprocess), self.whole, self.data.test.y)


def chosen(planned: Sequence[Cell], patterns: Sequence[str]) -> Iterator[Cell]:
    return (cell for cell in planned if any(fnmatch.fnmatch(cell.name, pattern) for pattern in patterns))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.prune_curve",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--criteria", nargs="+", default=["l1", "fpgm", "hrank", "taylor", "random"], metavar="CRITERION[:SCOPE]")
    add("--keep", nargs="+", type=float, default=[0.48, 0.3, 0.7], help="shares of the MACs")
    add("--only", nargs="+", default=["*"], help='patterns of cells, like "taylor-*"')
    add("--images", type=int, default=20_000, help="training images of the recovery, each class in its share")
    add("--epochs", type=int, default=1)
    add("--batch", type=int, default=64)
    add("--lr", type=float, default=0.02, help="of the first step; cosine")
    add("--alpha", type=float, default=0.9)
    add("--temperature", type=float, default=4.0)
    add("--precision", choices=["float32", "bf16"], default="bf16")
    add("--seed", type=int, default=0)
    add("--work", type=Path, default=Path("runs/prune-curve"), help="folder of what is done")
    add("--out", type=Path, default=Path("results/resnet56-pruned"), help="folder of the record")
    add("--progress", action="store_true")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace, command: str) -> int:
    recovery = Recovery(**{key: getattr(asked, key) for key in Recovery.__dataclass_fields__})
    data, network = load_data("cifar10", data_folder() / "cifar10"), NETWORKS[NETWORK]
    planned = list(chosen(cells(asked.criteria, asked.keep), asked.only))
    with using_threads(1):
        study = Study(build(network)[0], data, network.preprocess, recovery, asked.work)
        rows = [study.row(cell, asked.progress) for cell in planned]
    whole = compared(study.whole, study.whole, data.test.y)
    write_record(asked.out, NETWORK, whole, rows, study.settings, command)
    sys.stdout.write((asked.out / "curve.md").read_text())
    return 0


def main(arguments: Sequence[str]) -> int:
    return end_well(lambda: run(parse(arguments), portable_command("tests.benchmarks.prune_curve", arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
