"""What a student learns from a good and a bad teacher, by each way of weighing them: handwritten digits, a minute.

python -m tests.benchmarks.several_teachers
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from edgelathe.compress.distill.several import COMBINES, distill_several
from edgelathe.compress.distill.teachers import Teacher, as_teacher
from edgelathe.compress.evaluate import evaluate
from edgelathe.compress.train import train
from edgelathe.data import Dataset, load_data
from edgelathe.models.zoo import build
from torch import nn

EPOCHS = 8
SETTINGS: dict[str, Any] = {"batch": 64, "precision": "float32", "threads": 1, "progress": False}


def network(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    return build("cifar_resnet8", num_classes=10, in_channels=1, width=width)


def made_teachers(data: Dataset) -> list[Teacher]:
    """One trained for twelve epochs, and one for a single epoch at a low learning rate."""
    good, bad = network(0, 16), network(1, 8)
    train(good, data, preprocess=data.preprocess, epochs=12, lr=0.1, augment="shift", **SETTINGS)
    train(bad, data, preprocess=data.preprocess, epochs=1, lr=0.02, **SETTINGS)
    return [as_teacher("good", good, data.preprocess), as_teacher("bad", bad, data.preprocess)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(2, 2 + parser.parse_args().seeds)
    data = load_data("digits")
    teachers = made_teachers(data)
    lines = [
        f"{teacher.name}: {evaluate(teacher.network, data.test, teacher.preprocess)} of {len(data.test)} right"
        for teacher in teachers
    ]
    lines += [
        f"| `combine` | right, of {len(data.test)}, by seed | weight of the good one in the last epoch |",
        "|---|---|---|",
    ]
    for combine in COMBINES:
        right, weights = [], []
        for seed in seeds:
            student = network(seed, 8)
            result = distill_several(
                student, teachers, data, preprocess=data.preprocess, combine=combine, epochs=EPOCHS, lr=0.05,
                augment="shift", seed=seed, **SETTINGS,
            )  # fmt: skip
            right.append(str(evaluate(student, data.test, data.preprocess)))
            weights.append(f"{result.epochs[-1].logged['weight of good']:.2f}")
        lines.append(f"| `{combine}` | {', '.join(right)} | {', '.join(weights)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
