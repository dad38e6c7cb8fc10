"""Trainings that test_parallel.py compares: by themselves in its process, and in two processes that run this file.

RANK=0 WORLD_SIZE=2 ... python launched.py FOLDER CASE ...      writes FOLDER/<case>-<rank>.json
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgelathe.compress import parallel
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.objective import Batch, Objective
from edgelathe.compress.sparsify.sparsify_gradually import sparsify_gradually
from edgelathe.compress.train import train
from edgelathe.data import Dataset, Preprocess, Split
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

BATCH = 30
"""15 images for each of two processes."""

CASES: dict[str, dict[str, Any]] = {
    "plain": {"norm": False, "label_smoothing": 0.1},
    "norms": {"norm": True, "augment": "crop-flip", "weight_decay": 1e-3},
    "uneven": {"norm": True, "batch": 31, "evaluate": "every"},
    "mixed": {"norm": True, "mix": "cutmix", "mix_strength": 1.0, "ema": 0.9, "views": 2, "augment": "shift"},
    "bf16": {"norm": True, "precision": "bf16"},
    "learned": {"norm": True, "objective": True},
    "lasso": {"norm": True, "sparsity": "group-lasso", "schedule": "one-cycle"},
    "gradual": {"norm": True, "keep": 0.4},
    "kept": {"norm": True, "objective": True, "ema": 0.9},
    "dying": {"norm": True, "objective": True, "ema": 0.9},
}


class Scaled(Objective):
    """Cross entropy of logits times a learned factor; the second process dies in the third epoch where it shall."""

    def __init__(self, dies: bool) -> None:
        self.factor = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.factor.weight)
        self.dies = dies
        self.losses: list[float] = []

    def settings(self) -> Mapping[str, object]:
        return {"loss": "scaled"}

    def trained(self) -> nn.Module:
        return self.factor

    def logged(self) -> Mapping[str, float]:
        losses, self.losses = self.losses, []
        return {"loss": float(np.mean(losses))}

    def __call__(self, batch: Batch) -> Tensor:
        if self.dies and batch.done >= 2 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        loss = batch.label_loss(batch.logits * self.factor.weight).mean()
        self.losses.append(loss.item())
        return loss


def toy_data() -> Dataset:
    """Three classes of 8x8 RGB images: which colour is bright tells the class."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        y = np.arange(count, dtype=np.int64) % 3
        x = rng.integers(0, 120, (count, 8, 8, 3))
        x[np.arange(count), :, :, y] += 60
        return Split(x.astype(np.uint8), y)

    preprocess = Preprocess((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    return Dataset("blobs", split(96), split(45), ("red", "green", "blue"), preprocess)


def network(norm: bool) -> nn.Module:
    torch.manual_seed(int(os.environ.get("RANK", "0")))  # the main process decides with which weights all begin
    body = [nn.Conv2d(3, 8, 3, padding=1, bias=not norm)] + ([nn.BatchNorm2d(8)] if norm else [])
    return nn.Sequential(*body, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))


def result(case: str, state: Path | None = None) -> dict[str, Any]:
    keys = dict(CASES[case])
    model, data = network(keys.pop("norm")), toy_data()
    settings: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 4, "batch": BATCH, "lr": 0.05, "precision": "float32", "seed": 3,
        "progress": False, "threads": 1, "state": state,
    }  # fmt: skip
    if "keep" in keys:
        trained, _ = sparsify_gradually(model, data, **settings, **keys)
    else:
        if keys.pop("objective", False):
            settings["objective"] = Scaled(dies=case == "dying" and "DEADLY" in os.environ)
        trained = train(model, data, **{**settings, **keys})
    return {
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "weights": [float(value) for tensor in model.state_dict().values() for value in tensor.flatten()],
        "sha256": state_sha256(model),
    }


def main(folder: Path, cases: list[str]) -> None:
    rank = os.environ["RANK"]
    for case in cases:
        try:
            found = result(case, folder / "state" if case == "dying" else None)
        except EdgeLatheError as error:
            found = {"error": str(error)}
        (folder / f"{case}-{rank}.json").write_text(json.dumps(found))
    parallel._leave()
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]
    (folder / f"threads-{rank}.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
