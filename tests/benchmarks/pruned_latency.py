"""Pruning to a latency, and what widths that suit the runtime are worth, on ONNX Runtime and one thread.

    python -m tests.benchmarks.pruned_latency
    python -m tests.benchmarks.pruned_latency --network resnet20 --latency-of float --keep-macs 0.6 --seconds 10

For each network, float and int8:

    target   prune to half of the latency with the multiples that were measured; the file is then measured anew, and the
             share of the whole network's latency is printed with its interval
    widths   at equal MACs, widths that are multiples of what was measured for each group against arbitrary ones
             (multiple = 1, cut to no more MACs than the others have), uniform and global: latency of the first as a
             share of the second, in turns, with its interval

Run it from the root of the repository with the folder of test data in EDGELATHE_TEST_DATA, on a machine that is
otherwise idle. ResNets have published weights; those of other networks are random, which does not change latency.
Option A shortcuts are opened first (docs/surgery.md); targets are shares of the latency of the opened network. Nothing
is recovered by training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from edgelathe.bench.latency import measure_latency
from edgelathe.bench.records import Latency
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.plan import PruningPlan, Scope
from edgelathe.compress.prune.probes import READINGS, Probe
from edgelathe.compress.surgery.open_shortcuts import open_shortcuts
from edgelathe.latencymeasure import Deployment, LatencyOf, latency_against, write_deployed
from edgelathe.models import zoo
from edgelathe.models.resnet import OptionAShortcut
from edgelathe.models.weights import load_weights
from torch import Tensor, nn

from .command import data_folder, end_well, say
from .networks import NETWORKS, Network

Measure = Callable[[nn.Module], float]
DEPLOYMENT = Deployment()
SCOPES: tuple[Scope, ...] = ("uniform", "global")


def remembering(measure: Measure) -> Measure:
    """`measure`, which gives the readings of a small network again once it has as many as are ever asked for."""
    readings: dict[str, list[float]] = defaultdict(list)
    asked: Counter[str] = Counter()

    def remembered(network: nn.Module) -> float:
        if not isinstance(network, Probe):
            return measure(network)
        kind = repr(network)
        place = asked[kind] % READINGS
        asked[kind] += 1
        if place == len(readings[kind]):
            readings[kind].append(measure(network))
        return readings[kind][place]

    return remembered


def build(network: Network) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = zoo.build(network.source, num_classes=network.classes, in_channels=3, **network.arguments).eval()
    if network.weights is not None:
        load_weights(model, data_folder() / network.weights)
    return model, torch.randn(2, 3, network.side, network.side)


def opened(model: nn.Module) -> nn.Module:
    if any(isinstance(module, OptionAShortcut) for module in model.modules()):
        return open_shortcuts(model)[0]
    return model


def in_words(latency: Latency) -> str:
    return f"{latency.ratio:.3f} (95 % interval {latency.ratio_low:.3f} to {latency.ratio_high:.3f})"


class Comparison:
    """One network in one precision."""

    def __init__(self, name: str, latency_of: LatencyOf, folder: Path, seconds: float) -> None:
        self.title, self.latency_of, self.folder, self.seconds = f"{name} {latency_of}", latency_of, folder, seconds
        self.whole, self.example = build(NETWORKS[name])
        self.model = opened(self.whole)
        folder.mkdir()
        self.measure = remembering(
            latency_against(
                self.whole,
                self.example,
                folder,
                deployment=DEPLOYMENT,
                latency_of=latency_of,
                say=lambda line: say(f"  {line}"),
            )
        )

    def against(self, reference: nn.Module, other: nn.Module) -> Latency:
        """Latency of `other` as a share of that of `reference`, measured in turns."""
        files = {
            name: write_deployed(
                network, self.example, self.folder / f"{name}.onnx", self.latency_of, DEPLOYMENT.target
            )
            for name, network in (("reference", reference), ("other", other))
        }  # fmt: skip
        return measure_latency(files, reference="reference", seconds=self.seconds, target_width=0.01)["other"]

    def target(self, keep: float) -> None:
        say(f"{self.title}: prune to {keep:.0%} of the latency")
        pruned, plan = prune_channels(
            self.model, self.example, criterion="l1", keep_latency=keep, multiple="auto", measure=self.measure
        )
        found = self.against(self.model, pruned)
        hit = abs(found.ratio / keep - 1) <= 0.05
        self._print(f"target {keep}: {in_words(found)} of the latency, {'hit' if hit else 'missed by more than 5 %'};"
                    f" {self._left(plan)}, {len(plan.latencies)} measurements of whole networks")  # fmt: skip
        for one in plan.multiples:
            self._print(f"  {one.layer}: multiples of {one.multiple}, {one.reason}")

    def widths(self, keep: float, scope: Scope) -> None:
        say(f"{self.title}: {keep:.0%} of the MACs, {scope}")
        stepped, plan = prune_channels(
            self.model,
            self.example,
            criterion="l1",
            keep_macs=keep,
            scope=scope,
            multiple="auto",
            measure=self.measure,
        )
        share = plan.macs_after / plan.macs_before
        arbitrary, other = prune_channels(self.model, self.example, criterion="l1", keep_macs=share, scope=scope)
        found = self.against(arbitrary, stepped)
        self._print(f"widths {scope} {keep}: {in_words(found)} of the latency of arbitrary widths;"
                    f" {self._left(plan)}, {self._left(other)}")  # fmt: skip

    def _left(self, plan: PruningPlan) -> str:
        return f"{plan.macs_after / plan.macs_before:.1%} of the MACs"

    def _print(self, line: str) -> None:
        print(f"{self.title} {line}", flush=True)  # noqa: T201


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.network:
            for latency_of in arguments.latency_of:
                comparison = Comparison(name, latency_of, Path(folder) / f"{name}-{latency_of}", arguments.seconds)
                for keep in arguments.keep_latency:
                    comparison.target(keep)
                for scope in SCOPES:
                    for keep in arguments.keep_macs:
                        comparison.widths(keep, scope)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.pruned_latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--network", nargs="+", default=["resnet56", "mobilenet_v2"], choices=sorted(NETWORKS))
    parser.add_argument("--latency-of", nargs="+", default=["float", "int8"], choices=["float", "int8"])
    parser.add_argument("--keep-latency", nargs="*", type=float, default=[0.5])
    parser.add_argument("--keep-macs", nargs="*", type=float, default=[0.4, 0.6, 0.75])
    parser.add_argument("--seconds", type=float, default=40.0, help="budget of each comparison")
    parsed = parser.parse_args(arguments)
    return end_well(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
