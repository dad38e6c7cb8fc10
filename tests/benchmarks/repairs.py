"""What each repair wins, alone and with the others: agreement with float, and signal to noise of the logits.

    python -m tests.benchmarks.repairs
    python -m tests.benchmarks.repairs --networks mobilenet_v1 --scales per-tensor --rounding nearest layers

The folder of test data is in EDGELATHE_TEST_DATA. Every combination of the switches is quantized from one calibration
and judged in ONNX Runtime on images that it was not calibrated on; the table goes to standard output.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import get_args

import numpy as np
from edgelathe.bench.accuracy import predict_logits
from edgelathe.bench.environment import usable_cores
from edgelathe.bench.stats import wilson
from edgelathe.bench.units import in_percent
from edgelathe.compress.quantize.builder import Builder, Rounding, Scheme
from edgelathe.compress.quantize.repair.bias_correction import Method as BiasMethod
from edgelathe.compress.quantize.repair.equalize import By
from edgelathe.imagesequence import ImageSequence

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import load_images
from .measure import decibels
from .networks import NETWORKS
from .table import markdown_table

TRAINED = [name for name, network in NETWORKS.items() if network.trained]
DEFAULT = ["resnet20", "resnet56", "densenet", "mobilenet_v1"]
NONE = "none"
SCALES = {"per-channel": True, "per-tensor": False}
HEADINGS = ("network", "scales", "equalize", "correct_bias", "rounding", "agreement", "95 % interval", "SNR, dB", "s")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.repairs",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=TRAINED, default=DEFAULT, metavar="NAME", help=", ".join(TRAINED))
    add("--scales", nargs="+", choices=SCALES, default=list(SCALES), help="of weights")
    add("--equalize", nargs="+", choices=(NONE, *get_args(By)), default=[NONE, *get_args(By)])
    add("--correct-bias", nargs="+", choices=(NONE, *get_args(BiasMethod)), default=[NONE, *get_args(BiasMethod)])
    add("--rounding", nargs="+", choices=get_args(Rounding), default=["nearest"], help="what is learned needs PyTorch")
    add("--method", default="mse", help="how ranges of activations are chosen")
    add("--judged", type=int, default=4000, help="images that agreement is measured on, at most")
    add("--seed", type=int, default=0, help="chooses the calibration images")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace) -> int:
    data = data_folder()
    rows = [row for name in asked.networks for row in rows_of(name, data, asked)]
    sys.stdout.write(markdown_table(HEADINGS, rows) + "\n")
    return 0


def rows_of(name: str, data: Path, asked: argparse.Namespace) -> Iterable[list[str]]:
    network = NETWORKS[name]
    images = load_images(network, data, network.calibration, asked.seed)
    assert images.agreement is not None
    judged = images.agreement.images.x[: asked.judged]
    preprocess = network.preprocess
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        write_float(network, data, model, asked.seed)
        reference = predict_logits(model, judged, preprocess, threads=usable_cores())
        builder = Builder(
            model,
            ImageSequence(images.calibration.x, preprocess),
            target="x86-vnni",
            pixels=(preprocess.mean, preprocess.std),
        )
        for scales, equalize, correct_bias, rounding in product(
            asked.scales, asked.equalize, asked.correct_bias, asked.rounding
        ):
            repairs = (None if word == NONE else word for word in (equalize, correct_bias))
            started = perf_counter()
            file.write_bytes(builder.build(Scheme(asked.method, SCALES[scales], *repairs, rounding)).file)
            seconds = perf_counter() - started
            found = predict_logits(file, judged, preprocess, threads=usable_cores())
            words = [name, scales, equalize, correct_bias, rounding]
            say(" ".join([*words, *figures(reference, found)]))
            yield [*words, *figures(reference, found), f"{seconds:.1f}"]


def figures(reference: np.ndarray, found: np.ndarray) -> list[str]:
    """Agreement of float [N, classes] logits, its interval, and signal to noise."""
    total = len(reference)
    same = int((found.argmax(1) == reference.argmax(1)).sum())
    low, high = wilson(same, total)
    return [
        in_percent(same / total, 10_000),
        f"{in_percent(low, 10_000)} to {in_percent(high, 10_000)}",
        f"{decibels(reference, found) or np.inf:.1f}",
    ]


if __name__ == "__main__":
    sys.exit(end_well(lambda: run(parse(sys.argv[1:]))))
