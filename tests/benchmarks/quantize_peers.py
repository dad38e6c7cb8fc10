"""`edgelathe quantize` beside its peers: accuracy, latency, size, time and memory, on ten networks.

    python -m tests.benchmarks.quantize_peers
    python -m tests.benchmarks.quantize_peers --networks resnet20 resnet56 --seconds 120 --out results/peers.json
    python -m tests.benchmarks.quantize_peers --peer-python ~/nncf/bin/python --variant minmax="--method minmax"

Run it from the root of the repository, on a machine that does nothing else, with the folder of test data in
EDGELATHE_TEST_DATA. A network that is finished is kept (--work); the same command continues after an interruption.
Peers that are not installed are left out: `pip install nncf` into an environment of its own serves the NNCF ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from edgelathe.bench.environment import environment

from .command import data_folder, end_well, now, portable_command, say
from .floatfile import describe, write_float
from .images import load_images, write_folder
from .measure import Limits, measure_tools
from .networks import NETWORKS, Network
from .parts import Benchmark, Part, code_hash, key_of, read_kept, write_record
from .peers import PEERS, Job, Tool, find_peers, our_tools
from .table import as_markdown

MODULE = "tests.benchmarks.quantize_peers"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    add("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    add(
        "--peer-python",
        nargs="*",
        default=[],
        metavar="PATH",
        help="Pythons of environments that hold other peers",
    )
    add("--variant", nargs="*", default=[], metavar="NAME=ARGS", help="edgelathe quantize again with these arguments")
    add("--images", type=int, help="calibration images (None: 512, or 64 or 32 of 224 x 224)")
    add("--seconds", type=float, default=90.0, help="budget of each network's latency measurement")
    add("--repeats", type=int, default=3, help="how often each tool quantizes each network")
    add("--memory-limit", type=float, default=16.0, metavar="GB", help="a tool that takes more is stopped")
    add("--seed", type=int, default=0, help="chooses images, orders and random weights")
    add("--out", type=Path, default=Path("results/quantize_peers.json"), help="the record; the table goes beside it")
    add("--work", type=Path, default=Path("runs/quantize_peers"), help="folder of the files and finished networks")
    add("--fresh", action="store_true", help="measure finished networks again")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace, command: str) -> int:
    """0 when every network went through ours, 1 when ours failed on one."""
    data = data_folder()
    peers, missing = find_peers(asked.peers, [sys.executable, *asked.peer_python])
    tools = [*our_tools(asked.variant), *peers]
    limits = Limits(asked.seconds, asked.repeats, int(asked.memory_limit * 1e9))
    found = environment()
    parts: list[Part] = []
    for name in asked.networks:
        network = with_images(NETWORKS[name], asked.images)
        key = key_of(
            network=dataclasses.asdict(network),
            tools=[(tool.name, tool.settings, dict(tool.versions)) for tool in tools],
            limits=dataclasses.asdict(limits),
            seed=asked.seed,
            environment=found.fingerprint,
            code=code_hash(),
        )
        kept = asked.work / name / "part.json"
        part = None if asked.fresh else read_kept(kept, Part, key)
        if part is None:
            part = measure_network(name, network, key, data, tools, limits, asked.seed, asked.work / name)
            write_record(kept, part)
        else:
            say(f"{name}: kept from before")
        parts.append(part)
        benchmark = Benchmark(
            command=command,
            created=now(),
            seed=asked.seed,
            environment=found,
            missing=tuple(missing),
            parts=tuple(parts),
        )
        write_record(asked.out, benchmark)
        table = as_markdown(benchmark)
        asked.out.with_suffix(".md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    return int(any(entry.failure for part in parts for entry in part.entries if entry.tool == tools[0].name))


def measure_network(
    name: str, network: Network, key: str, data: Path, tools: Sequence[Tool], limits: Limits, seed: int, folder: Path
) -> Part:
    say(f"{name}: images and float file")
    images = load_images(network, data, network.calibration, seed)
    model, calibration = folder / "float.onnx", folder / "calibration"
    write_float(network, data, model, seed)
    write_folder(images.calibration.x, calibration)
    job = Job(model, model, calibration, len(images.calibration), network.preprocess, seed)
    entries = measure_tools(job, images, tools, limits, say)
    return Part(
        key=key,
        network=name,
        about=describe(network, seed),
        calibration=images.calibration_made,
        top1_images=None if images.top1 is None else images.top1.made,
        agreement_images=None if images.agreement is None else images.agreement.made,
        created=now(),
        entries=entries,
    )


def with_images(network: Network, count: int | None) -> Network:
    return network if count is None else dataclasses.replace(network, calibration=count)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(end_well(lambda: run(parse(given), portable_command(MODULE, given))))
