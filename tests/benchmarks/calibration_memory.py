"""Peak memory of quantizing, by the number of calibration images: flat is what it should be.

    python -m tests.benchmarks.calibration_memory
    python -m tests.benchmarks.calibration_memory --counts 32 128 --variant minmax="--method minmax"

Each point is a process of its own with a folder of exactly as many images. Run it from the root of the repository
with the folder of test data in EDGELATHE_TEST_DATA. Finished points are kept (--work); once a tool has passed the
limit, more images are not tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from edgelathe.bench.environment import environment
from edgelathe.bench.memory import measure_memory
from edgelathe.bench.records import Environment, Record

from .command import data_folder, end_well, now, portable_command, say
from .cost import Cost, ToolError
from .floatfile import write_float
from .images import load_images, write_folder
from .measure import output_of, quantize_once
from .networks import NETWORKS
from .parts import code_hash, key_of, read_kept, write_record
from .peers import BAR, OURS, PEERS, Job, Tool, find_peers, our_tools
from .table import markdown_table

MODULE = "tests.benchmarks.calibration_memory"


class Point(Record):
    """One tool with one number of images; without cost where it failed."""

    key: str
    tool: str
    images: int
    cost: Cost | None
    failure: str = ""


class Curves(Record):
    command: str
    created: str
    seed: int
    environment: Environment
    network: str
    tools: dict[str, str]
    """Settings by name."""
    float_peak_bytes: int
    """Of a process that only runs the float file, one image at a time."""
    points: tuple[Point, ...]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    peers = [BAR, f"{BAR}-lean", "onnxruntime-percentile"]
    add = parser.add_argument
    add("--network", choices=NETWORKS, default="mobilenet_v2", metavar="NAME", help=", ".join(NETWORKS))
    add("--counts", nargs="+", type=int, default=[32, 128, 512, 2048], metavar="N", help="calibration images")
    add("--peers", nargs="*", choices=PEERS, default=peers, metavar="NAME", help=", ".join(PEERS))
    add(
        "--peer-python",
        nargs="*",
        default=[],
        metavar="PATH",
        help="Pythons of environments that hold other peers",
    )
    add("--variant", nargs="*", default=[], metavar="NAME=ARGS", help="edgelathe quantize again with these arguments")
    add("--memory-limit", type=float, default=12.0, metavar="GB", help="a tool that takes more is stopped")
    add("--seed", type=int, default=0, help="chooses images and random weights")
    add(
        "--out", type=Path, default=Path("results/calibration_memory.json"), help="the record; the table goes beside it"
    )
    add("--work", type=Path, default=Path("runs/calibration_memory"), help="folder of the files and finished points")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace, command: str) -> int:
    """0 when ours came through with every number of images, else 1."""
    data, network, found = data_folder(), NETWORKS[asked.network], environment()
    peers, missing = find_peers(asked.peers, [sys.executable, *asked.peer_python])
    for name in missing:
        say(f"{name} is not installed")
    tools = [*our_tools(asked.variant), *peers]
    folder = asked.work / asked.network
    model = folder / "float.onnx"
    write_float(network, data, model, asked.seed)
    points: list[Point] = []
    for count in sorted(asked.counts):
        calibration = folder / f"images-{count}"
        write_folder(load_images(network, data, count, asked.seed).calibration.x, calibration)
        job = Job(model, model, calibration, count, network.preprocess, asked.seed)
        for tool in tools:
            if any(point.tool == tool.name and point.failure for point in points):
                continue
            key = key_of(
                network=dataclasses.asdict(network),
                tool=(tool.name, tool.settings, dict(tool.versions)),
                images=count,
                limit=asked.memory_limit,
                seed=asked.seed,
                environment=found.fingerprint,
                code=code_hash(),
            )
            point = measure_point(tool, job, key, int(asked.memory_limit * 1e9), folder)
            points.append(point)
            say(f"{tool.name}, {count} images: {cell(point)}")
    curves = Curves(
        command=command,
        created=now(),
        seed=asked.seed,
        environment=found,
        network=asked.network,
        tools={tool.name: tool.settings for tool in tools},
        float_peak_bytes=measure_memory(model).peak,
        points=tuple(points),
    )
    write_record(asked.out, curves)
    table = as_markdown(curves)
    asked.out.with_suffix(".md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    return int(any(point.failure for point in points if point.tool == tools[0].name))


def measure_point(tool: Tool, job: Job, key: str, limit_bytes: int, folder: Path) -> Point:
    """The point as an earlier run has kept it in `folder`, or measured and kept."""
    path = folder / f"{output_of(job, tool).stem}-{job.count}.json"
    point = read_kept(path, Point, key)
    if point is None:
        try:
            cost = quantize_once(tool, dataclasses.replace(job, output=output_of(job, tool)), limit_bytes)
            point = Point(key=key, tool=tool.name, images=job.count, cost=cost)
        except ToolError as reason:
            point = Point(key=key, tool=tool.name, images=job.count, cost=None, failure=str(reason))
        write_record(path, point)
    return point


def as_markdown(curves: Curves) -> str:
    """A row per tool, a column per number of images."""
    counts = sorted({point.images for point in curves.points})
    at = {(point.tool, point.images): cell(point) for point in curves.points}
    rows = [[tool, *(at.get((tool, count), "not tried") for count in counts)] for tool in curves.tools]
    found = curves.environment
    beneath = [
        verdict(curves),
        f"{curves.network}: peak resident memory of the whole process in units of 10^6 bytes (and its seconds), by "
        f"number of calibration images; running the float file alone takes {curves.float_peak_bytes / 1e6:.0f}",
        *(f"{tool}: {settings}" for tool, settings in curves.tools.items()),
        f"{found.cpu}, {found.cores} cores, {', '.join(found.isa)}; seed {curves.seed}",
        f"`{curves.command}`",
    ]
    table = markdown_table(("tool", *(f"{n} images" for n in counts)), rows)
    return "\n\n".join([table, "\n".join(f"- {note}" for note in beneath)]) + "\n"


def verdict(curves: Curves) -> str:
    """By how much ours grows from the fewest images to the most, and how far it is above the float file."""
    ours = {point.images: point.cost.peak_bytes for point in curves.points if point.tool == OURS and point.cost}
    if not ours:
        return f"{OURS} failed"
    growth, above = ours[max(ours)] - ours[min(ours)], max(ours.values()) - curves.float_peak_bytes
    return (
        f"{OURS} takes {growth / 1e6:+.0f} with {max(ours)} images compared to {min(ours)}, and at most "
        f"{above / 1e6:.0f} more than running the float file"
    )


def cell(point: Point) -> str:
    return point.failure if point.cost is None else f"{point.cost.peak_bytes / 1e6:.0f} ({point.cost.seconds:.0f} s)"


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(end_well(lambda: run(parse(given), portable_command(MODULE, given))))
