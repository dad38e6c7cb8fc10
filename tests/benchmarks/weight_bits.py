"""Bits per layer under a budget of bytes against the same bytes spent evenly.

    python -m tests.benchmarks.weight_bits MODEL.onnx --data cifar10 --root DATA --mean 0.485,0.456,0.406 --std ...

For every even number of bits: agreement with float of the even file, and of the file whose bits per layer were
searched for the same bytes (packed). Weights only lose bits; activations stay uint8.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from edgelathe.bench.accuracy import predict_logits
from edgelathe.bench.stats import wilson
from edgelathe.compress.quantize.builder import Builder, Scheme
from edgelathe.compress.quantize.search.sensitivity import noise_share
from edgelathe.compress.quantize.search.weight_bits import measure_bits, spend_bytes
from edgelathe.data import Preprocess, load_data
from edgelathe.imagesequence import ImageSequence
from edgelathe.tuning import split_training

SCHEME = Scheme("mse", per_channel=True)


def main() -> None:
    asked = _arguments()
    data = load_data(asked.data, asked.root)
    preprocess = Preprocess(asked.mean, asked.std)
    calibration, judged = split_training(data, 512, 0, asked.judged)
    images = ImageSequence(calibration.x, preprocess)
    builder = Builder(asked.model, images, target="x86-vnni")
    layers = measure_bits(builder.plain, builder.float_graph_plan(SCHEME), images[: asked.measured], coding="packed")
    reference = predict_logits(asked.model, judged.x, preprocess)

    def row(name: str, weight_bits: dict[str, int]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            file.write_bytes(builder.build(SCHEME, weight_bits=weight_bits).file)
            found = predict_logits(file, judged.x, preprocess)
        same = int(np.sum(found.argmax(1) == reference.argmax(1)))
        low, high = wilson(same, len(found))
        noise = -10 * np.log10(noise_share(reference, found))
        return f"| {name} | {same / len(found):.2%} ({low:.2%} to {high:.2%}) | {noise:.1f} |"

    lines = ["| weights | agreement with float | signal to noise, dB |", "|---|---|---|", row("8 bits", {})]
    for bits in (6, 5, 4, 3):
        lines.append(row(f"{bits} bits everywhere", dict.fromkeys(layers, bits)))
        searched = spend_bytes(layers, budget=bits / 8, coding="packed")
        lines.append(row(f"the same bytes, {_spread(searched.weight_bits)}", searched.weight_bits))
    print("\n".join(lines))  # noqa: T201


def _spread(weight_bits: dict[str, int]) -> str:
    return f"{min(weight_bits.values())} to {max(weight_bits.values())} bits by layer"


def _triple(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--mean", type=_triple, required=True)
    parser.add_argument("--std", type=_triple, required=True)
    parser.add_argument("--judged", type=int, default=4000)
    parser.add_argument("--measured", type=int, default=32, help="images that layers are measured on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
