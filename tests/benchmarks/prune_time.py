"""Time of planning and surgery against bare Torch-Pruning making the same cut, in turns on one thread.

    python -m tests.benchmarks.prune_time
    python -m tests.benchmarks.prune_time --network mobilenet_v2 --rounds 10

Both rank by L1 and cut every group that may be cut to the same share of its channels; the widths that come out are
compared. EdgeLathe also tries the cut out against the whole network, counts MACs and parameters, and leaves the
network as it was, while Torch-Pruning cuts it in place. Weights are random: they do not change the time. Time is that
of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import copy
import gc
import random
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch_pruning as tp
from edgelathe.bench.stats import bootstrap_clusters
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.macs import count_macs
from edgelathe.compress.prune.plan import PruningPlan
from edgelathe.models import zoo
from torch import Tensor, nn

from .command import end_well, say


def by_edgelathe(model: nn.Module, example: Tensor, keep: float) -> tuple[nn.Module, PruningPlan]:
    return prune_channels(model, example, criterion="l1", keep_macs=keep)


def by_torch_pruning(model: nn.Module, example: Tensor, plan: PruningPlan) -> nn.Module:
    """`model` itself, cut in place to the shares of `plan`."""
    left = {group.layer for group in plan.groups if group.reason}
    pruner = tp.pruner.BasePruner(
        model,
        example,
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=1 - plan.ratio,
        ignored_layers=[module for name, module in model.named_modules() if name in left],
    )
    pruner.step()
    return model


def seconds(work: Callable[[], object]) -> float:
    gc.collect()  # what others left is not this one's to clear away
    begun = time.process_time()
    work()
    return time.process_time() - begun


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = zoo.build(f"torchvision:{arguments.network}", num_classes=1000).eval()
    example = torch.randn(1, 3, arguments.size, arguments.size)
    pruned, plan = by_edgelathe(model, example, arguments.keep_macs)
    peer = by_torch_pruning(copy.deepcopy(model), example, plan)
    macs = count_macs(pruned, example)[0] / count_macs(peer, example)[0]
    say(f"{arguments.network} at {arguments.size}: {plan.macs_after / plan.macs_before:.1%} of the MACs left by"
        f" EdgeLathe, {macs:.3f} times those that Torch-Pruning left")  # fmt: skip
    order = random.Random(0)
    own: list[float] = []
    bare: list[float] = []
    for number in range(arguments.rounds):
        copied = copy.deepcopy(model)
        turns: list[tuple[list[float], Callable[[], object]]] = [
            (own, lambda: by_edgelathe(model, example, arguments.keep_macs)),
            (bare, lambda copied=copied: by_torch_pruning(copied, example, plan)),
        ]
        for times, work in order.sample(turns, 2):
            times.append(seconds(work))
        say(f"round {number + 1}: EdgeLathe {own[-1]:.2f} s, Torch-Pruning {bare[-1]:.2f} s")
    ratio, low, high = bootstrap_clusters([[a / b] for a, b in zip(own, bare, strict=True)], seed=0)
    print(f"EdgeLathe / Torch-Pruning: {ratio:.2f} (95 % interval {low:.2f} to {high:.2f}, {arguments.rounds} rounds)")  # noqa: T201
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.prune_time", description=__doc__)
    parser.add_argument("--network", default="resnet50", help="name of a torchvision classifier")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--keep-macs", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=10)
    parsed = parser.parse_args(arguments)
    return end_well(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
