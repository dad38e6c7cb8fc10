"""The files of the targets x86-vnni and openvino in OpenVINO: latency against float there, and what they compute.

    python -m tests.benchmarks.in_openvino
    python -m tests.benchmarks.in_openvino --network mobilenet_v2

Runs of the files take turns in random order, on one thread, in float32 where a file is float. Noise is against the
float file in ONNX Runtime, for the int8 files in either runtime. Needs the package openvino, which the product does
not; without it nothing is measured and the exit code is 0. Run it from the root of the repository with the folder of
test data in EDGELATHE_TEST_DATA.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from edgelathe.bench.runtimes.onnxruntime import load
from edgelathe.compress.quantize.quantize import quantize

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import load_images
from .networks import NETWORKS

JUDGED = 16
RUNS_PER_VISIT = 5
Run = Callable[[np.ndarray], np.ndarray]


def opened(path: Path, shape: tuple[int, ...]) -> Run:
    import openvino  # type: ignore[import-not-found, unused-ignore]

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *shape])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: np.array(next(iter(request.infer({0: image}).values())))


def decibels(reference: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


def measure(name: str, visits: int, seed: int, folder: Path) -> int:
    network, data = NETWORKS[name], data_folder()
    files = {way: folder / f"{way}.onnx" for way in ("float", "x86-vnni", "openvino")}
    write_float(network, data, files["float"], seed)
    images = load_images(network, data, network.calibration, seed)
    assert images.agreement is not None
    judged = network.preprocess(images.agreement.images.x[:JUDGED])
    for target in ("x86-vnni", "openvino"):
        quantize(files["float"], files[target], network.preprocess(images.calibration.x), target=target)
    runs = {way: opened(path, judged.shape[1:]) for way, path in files.items()}
    elsewhere = {}
    for way, path in files.items():
        model = load(path, 1)
        elsewhere[way] = np.concatenate([model.run({model.inputs[0].name: image[None]})[0] for image in judged])
    times: dict[str, list[float]] = {way: [] for way in files}
    order = random.Random(seed)
    for _ in range(visits):
        for way in order.sample(list(files), len(files)):
            runs[way](judged[:1])
            begun = time.perf_counter()
            for _ in range(RUNS_PER_VISIT):
                runs[way](judged[:1])
            times[way].append((time.perf_counter() - begun) / RUNS_PER_VISIT)
    for way in files:
        ratio = np.median(np.array(times[way]) / np.array(times["float"]))
        here = np.concatenate([runs[way](image[None]) for image in judged])
        found = {"OpenVINO": here} if way == "float" else {"OpenVINO": here, "ONNX Runtime": elsewhere[way]}
        noise = ", ".join(f"{decibels(elsewhere['float'], other):.1f} dB in {where}" for where, other in found.items())
        same = int((here.argmax(1) == elsewhere[way].argmax(1)).sum())
        sys.stdout.write(f"{way:10} {ratio:.3f} of float; {noise}; {same} of {JUDGED} answers as in ONNX Runtime\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="efficientnet_b0")
    parser.add_argument("--visits", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("openvino") is None:
        say("Skipped: the package openvino is not installed.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return measure(given.network, given.visits, given.seed, Path(folder))


if __name__ == "__main__":
    raise SystemExit(end_well(main))
