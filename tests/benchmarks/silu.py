"""Ways of keeping SiLU in an int8 file for ONNX Runtime's CPU kernels: latency against float, noise, time by operator.

    python -m tests.benchmarks.silu
    python -m tests.benchmarks.silu --network efficientnet_b0 --seconds 120

    int8        x * sigmoid(x) on codes: QLinearSigmoid, a table of 256 entries, and QLinearMul; what `quantize` writes
    float       codes of x to float, sigmoid and product there, codes of the result
    clamp       x * clamp(x / 6 + 1/2, 0, 1), hard-swish, the clamp on codes of x: another function, which only a
                network that was trained with it may use; shown for what it would gain
    relu6       clamp(x, 0, 6), what the stage replace-activations puts in its place: part of the convolution before it

Every convolution is in int8 in all of them. Run it from the root of the repository with the folder of test data in
EDGELATHE_TEST_DATA; the weights of the network are random, so noise compares the ways and says nothing of accuracy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from edgelathe.bench.latency import measure_latency
from edgelathe.bench.profile import profile
from edgelathe.bench.runtimes.onnxruntime import load
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.models.onnx_graph import add_initializer

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import load_images
from .networks import NETWORKS

CALIBRATION, JUDGED = 32, 16
MOST_OPERATORS = 8


def gates(model: ir.Model) -> list[tuple[ir.Node, ir.Node]]:
    """(Sigmoid, Mul) of every x * sigmoid(x), looking through conversions between float and codes."""
    found = []
    for product in (node for node in model.graph if node.op_type == "Mul"):
        for one, other in (product.inputs, product.inputs[::-1]):
            sigmoid = _origin(other).producer()
            if sigmoid is not None and sigmoid.op_type == "Sigmoid" and _origin(sigmoid.inputs[0]) is _origin(one):
                found.append((sigmoid, product))
                break
    return found


def _origin(value: ir.Value | None) -> ir.Value:
    assert value is not None
    node = value.producer()
    while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.inputs[0] is not None:
        value, node = node.inputs[0], node.inputs[0].producer()
    return value


def write_float_islands(int8_file: Path, path: Path) -> int:
    """The int8 file with the codes of every gate taken out; returns how many."""
    model = ir.load(int8_file)
    pairs = gates(model)
    for sigmoid, product in pairs:
        position = 0 if _origin(product.inputs[0]) is sigmoid.outputs[0] else 1
        product.replace_input_with(position, sigmoid.outputs[0])
    ir.passes.common.RemoveUnusedNodesPass()(model)
    ir.save(model, path)
    return len(pairs)


def write_hard(float_file: Path, path: Path) -> None:
    """The float file with every SiLU replaced by hard-swish."""
    model = ir.load(float_file)
    for sigmoid, _ in gates(model):
        hard = ir.Node(
            "", "HardSigmoid", list(sigmoid.inputs),
            [ir.AttrFloat32("alpha", 1 / 6), ir.AttrFloat32("beta", 0.5)], name=sigmoid.name,
        )  # fmt: skip
        ir.convenience.replace_nodes_and_values(
            model.graph, sigmoid, [sigmoid], [hard], list(sigmoid.outputs), list(hard.outputs)
        )
    ir.save(model, path)


def write_relu6(float_file: Path, path: Path) -> None:
    """The float file with every SiLU replaced by ReLU6."""
    model = ir.load(float_file)
    for number, limit in enumerate((0.0, 6.0)):
        add_initializer(model.graph, f"relu6_limit{number}", np.array(limit, np.float32))
    limits = [model.graph.initializers[f"relu6_limit{number}"] for number in (0, 1)]
    for sigmoid, product in gates(model):
        clip = ir.Node("", "Clip", [sigmoid.inputs[0], *limits], name=product.name)
        ir.convenience.replace_nodes_and_values(
            model.graph, product, [product], [clip], list(product.outputs), list(clip.outputs)
        )
    ir.passes.common.RemoveUnusedNodesPass()(model)
    ir.save(model, path)


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    model = load(path, 1)
    name = model.inputs[0].name
    return np.concatenate([model.run({name: images[i : i + 1]})[0] for i in range(len(images))])


def decibels(reference: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


def measure(name: str, seconds: float, seed: int, folder: Path) -> int:
    network, data = NETWORKS[name], data_folder()
    files = {way: folder / f"{way}.onnx" for way in ("float network", "int8", "float", "clamp", "relu6")}
    write_float(network, data, files["float network"], seed)
    images = load_images(network, data, CALIBRATION, seed)
    assert images.agreement is not None
    calibration, judged = (
        network.preprocess(images.calibration.x),
        network.preprocess(images.agreement.images.x)[:JUDGED],
    )
    quantize(files["float network"], files["int8"], calibration)
    say(f"{write_float_islands(files['int8'], files['float'])} SiLU")
    write_hard(files["float network"], folder / "hard.onnx")
    quantize(folder / "hard.onnx", files["clamp"], calibration)
    write_relu6(files["float network"], folder / "clipped.onnx")
    quantize(folder / "clipped.onnx", files["relu6"], calibration)
    reference = {way: logits(files["float network"], judged) for way in ("int8", "float")}
    reference["clamp"] = logits(folder / "hard.onnx", judged)
    reference["relu6"] = logits(folder / "clipped.onnx", judged)
    latency = measure_latency(files, reference="float network", seconds=seconds, seed=seed)
    profiles = profile(files, seed=seed)
    for way, found in latency.items():
        noise = f", {decibels(reference[way], logits(files[way], judged)):.1f} dB" if way in reference else ""
        share = f"{found.ratio:.3f} of float ({found.ratio_low:.3f} to {found.ratio_high:.3f})"
        sys.stdout.write(f"\n{way}: {found.median_ms:.2f} ms, {share}{noise}\n")
        for doubt in found.unstable:
            sys.stdout.write(f"  ! {doubt}\n")
        for op, microseconds in list(profiles[way].by_op().items())[:MOST_OPERATORS]:
            sys.stdout.write(f"  {op:28} {microseconds / 1000:6.2f} ms\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="efficientnet_b0")
    parser.add_argument("--seconds", type=float, default=90.0, help="budget of the latency measurement")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return measure(given.network, given.seconds, given.seed, Path(folder))


if __name__ == "__main__":
    raise SystemExit(end_well(main))
