"""ResNet-20 with weights of few bits: rounding alone beside quantization-aware training.

    EDGELATHE_TEST_DATA=DATA python -m tests.benchmarks.qat_bits --bits 8 3 --images 6400

The first and the last layer keep 8 bits. Accuracy is that of the int8 file in ONNX Runtime, on the first 1,000 CIFAR-10
test images; agreement with the float file is measured on train-4 as JPEG, which neither calibration nor training sees.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
from edgelathe.bench.accuracy import predict
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.builder import Builder, Scheme
from edgelathe.compress.quantize.learning.qat import train_quantized
from edgelathe.data import Dataset, load_data
from edgelathe.imagesequence import ImageSequence

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import TRAINING, TestSet, load_images
from .networks import NETWORKS, Network

CALIBRATION = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 3], help="of the weights between first and last")
    parser.add_argument("--images", type=int, default=6400, help="training images, seen once")
    parser.add_argument("--ranges", nargs="+", choices=["lsq", "ema"], default=["lsq", "ema"])
    parser.add_argument("--gradients", choices=["float", "int8"], default="float")
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--lr", type=float, default=0.001, help="few bits need more than the default of qat")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network, folder = NETWORKS["resnet20"], data_folder()
    sets = load_images(network, folder, CALIBRATION, options.seed)
    assert sets.top1 is not None
    assert sets.agreement is not None
    whole = load_data("cifar10", folder / "cifar10")
    assert whole.train is not None
    training = Dataset("cifar10", whole.train[:TRAINING].take(options.images, options.seed), whole.test, whole.classes,
                       network.preprocess)  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "float.onnx"
        write_float(network, folder, path, options.seed)
        images = ImageSequence(sets.calibration.x, network.preprocess)
        pixels = (network.preprocess.mean, network.preprocess.std)
        builder = Builder(path, images, target="x86-vnni", pixels=pixels)
        between = list(builder.planned(Scheme()).plan.weights)[1:-1]
        judge = Judge(network, sets.top1, sets.agreement, path)
        _write("| bits | how | top-1 | agreement with float | seconds |\n|---|---|---|---|---|")
        _write(f"| 32 | float | {judge.top1(path):.1%} | | |")
        for bits in options.bits:
            planned = builder.planned(Scheme(), weight_bits=dict.fromkeys(between, bits))
            _write(judge.row(f"{bits} | rounded", apply_plan(planned.prepared, planned.plan), 0.0))
            for ranges in options.ranges:
                say(f"training at {bits} bits, {ranges}")
                began = time.perf_counter()
                trained = train_quantized(
                    planned.prepared, planned.placement, planned.plan, training, preprocess=network.preprocess,
                    ranges=ranges, gradients=options.gradients, alpha=options.alpha, lr=options.lr, epochs=1,
                    augment="crop-flip", seed=options.seed, threads=1, progress=False,
                )  # fmt: skip
                seconds = time.perf_counter() - began
                _write(judge.row(f"{bits} | trained, {ranges}", apply_plan(trained.prepared, trained.plan), seconds))
    return 0


class Judge:
    def __init__(self, network: Network, top1: TestSet, agreement: TestSet, reference: Path) -> None:
        self._preprocess, self._top1, self._agreement = network.preprocess, top1.images, agreement.images
        self._float = predict(reference, self._agreement.x, self._preprocess)

    def top1(self, path: Path) -> float:
        return float(np.mean(predict(path, self._top1.x, self._preprocess) == self._top1.y))

    def row(self, name: str, model: ir.Model, seconds: float) -> str:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "int8.onnx"
            ir.save(model, path)
            same = np.mean(predict(path, self._agreement.x, self._preprocess) == self._float)
            return f"| {name} | {self.top1(path):.1%} | {same:.2%} | {seconds:.0f} |"


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(end_well(main))
