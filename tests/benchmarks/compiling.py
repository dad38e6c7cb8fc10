"""Training steps by torch.compile as it comes, as EdgeLathe calls it, and between the two, in turns in one process.

    python -m tests.benchmarks.compiling
    python -m tests.benchmarks.compiling --network resnet56 --precision float32

A step is forward, cross entropy, backward and SGD on a batch of random pixels of 32 x 32.
Each contender but the first two adds one change to the one before it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from edgelathe.bench.environment import usable_cores
from edgelathe.bench.stats import bootstrap_median, quartiles
from edgelathe.compress import compiling
from edgelathe.compress.allocator import keeping_freed_memory
from edgelathe.compress.precision import PRECISIONS, Precision, training_step
from edgelathe.models.zoo import build
from torch import fx, nn

from .command import end_well, say
from .networks import NETWORKS
from .table import markdown_table

PLAIN = "torch.compile"


def _not_in_place(module: nn.Module) -> Any:
    return torch.compile(module, options={"inplace_buffers": False})


def _norms_alone(module: nn.Module) -> Any:
    def by_inductor(graph: fx.GraphModule, inputs: list[Any]) -> Any:
        with mock.patch.object(compiling, "relu", F.relu):
            return compiling._by_inductor(graph, inputs)

    return torch.compile(module, backend=by_inductor)


def _whole(module: nn.Module) -> Any:
    return torch.compile(module, backend=compiling._by_inductor)


CONTENDERS: dict[str, Callable[[nn.Module], Any]] = {
    "not compiled": lambda module: module,
    PLAIN: torch.compile,
    "loops not in place": _not_in_place,
    "batch norm rewritten": _norms_alone,
    "ReLU rewritten, which is EdgeLathe's": _whole,
}


def stepper(name: str, source: str, precision: Precision, batch: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build(source, num_classes=10, in_channels=3).to(memory_format=torch.channels_last).train()
    inputs = torch.rand(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    return training_step(model, CONTENDERS[name](model), inputs, torch.randint(0, 10, (batch,)), precision)


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(usable_cores())
    network = NETWORKS[arguments.network]
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with keeping_freed_memory():
        steps = {}
        for name in CONTENDERS:
            say(f"getting ready: {name}")
            steps[name] = stepper(name, network.source, arguments.precision, arguments.batch)
            steps[name]()
        order = random.Random(0)
        for _ in range(arguments.rounds):
            for name in order.sample(list(steps), len(steps)):
                steps[name]()  # refills the caches
                began = time.perf_counter()
                for _ in range(arguments.steps):
                    steps[name]()
                seconds[name].append((time.perf_counter() - began) / arguments.steps)
    rows = []
    for name, taken in seconds.items():
        ratios = [mine / plain for mine, plain in zip(taken, seconds[PLAIN], strict=True)]
        middle, low, high = bootstrap_median(ratios, seed=0)
        share = "1" if name == PLAIN else f"{middle:.3f} ({low:.3f} to {high:.3f})"
        rows.append([name, f"{1000 * quartiles(taken)[1]:.1f}", share])
    table = markdown_table(["network", "ms a step", f"times {PLAIN}"], rows)
    sys.stdout.write(table.replace("network", arguments.network) + "\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiling", description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="resnet20")
    parser.add_argument("--precision", choices=PRECISIONS[1:], default="bf16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parsed = parser.parse_args(arguments)
    return end_well(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
