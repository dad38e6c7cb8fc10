"""What it costs to answer as the float network does: `edgelathe tune --judge float`, judged on images it has not seen.

    python -m tests.benchmarks.agreement
    python -m tests.benchmarks.agreement --networks resnet56 --drop 0.6 --minutes 25

Ranges are calibrated and files are judged on CIFAR-10 train-3, agreement is then counted on train-4, both as JPEG. Run
it from the root of the repository with the folder of test data in EDGELATHE_TEST_DATA; the same command continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgelathe.bench.accuracy import predict_logits
from edgelathe.bench.environment import usable_cores
from edgelathe.data import Split, load_data, stratified_order
from edgelathe.tuning import tune_file

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import TRAINING, load_images
from .jpeg import recompress
from .networks import NETWORKS
from .repairs import figures
from .table import markdown_table

CALIBRATION, SEED = 512, 0
NETWORKS_HERE = ("resnet20", "resnet32", "resnet44", "resnet56", "densenet")
HEADINGS = ("network", "agreement", "95 % interval", "SNR, dB", "latency", "in float", "settings")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.agreement",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS_HERE, default=["resnet20", "resnet56"])
    add("--drop", type=float, default=0.6, help="points of agreement that may go on the images of the search")
    add("--judged", type=int, default=5000, help="images that the search judges on")
    add("--minutes", type=float, default=25.0, help="budget of each search")
    add("--work", type=Path, default=Path("runs/agreement"), help="folder of files and searches")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace) -> int:
    data = data_folder()
    train = load_data("cifar10", data / "cifar10").train
    assert train is not None
    clean = train[TRAINING - 10_000 : TRAINING]
    order = stratified_order(clean.y, SEED)[: CALIBRATION + asked.judged]
    coarse = Split(recompress(clean.x[order]), clean.y[order])
    asked.work.mkdir(parents=True, exist_ok=True)
    rows = [_row(name, data, coarse[:CALIBRATION], coarse[CALIBRATION:], asked) for name in asked.networks]
    sys.stdout.write(markdown_table(HEADINGS, rows) + "\n")
    return 0


def _row(name: str, data: Path, calibration: Split, judged: Split, asked: argparse.Namespace) -> list[str]:
    network = NETWORKS[name]
    model, file = asked.work / f"{name}.onnx", asked.work / f"{name}.int8.onnx"
    write_float(network, data, model, SEED)
    found = tune_file(
        model, file, calibration, judged, network.preprocess, state=asked.work / f"{name}.search",
        max_accuracy_drop=asked.drop, judge="float", minutes=asked.minutes, say=say,
    )  # fmt: skip
    unseen = load_images(network, data, CALIBRATION, SEED).agreement
    assert unseen is not None
    reference, int8 = (
        predict_logits(path, unseen.images.x, network.preprocess, threads=usable_cores()) for path in (model, file)
    )
    latency = "" if found.best.latency is None else f"{found.best.latency:.3f} x"
    return [name, *figures(reference, int8), latency, str(len(found.best.keep_float)), str(found.best.scheme)]


if __name__ == "__main__":
    sys.exit(end_well(lambda: run(parse(sys.argv[1:]))))
