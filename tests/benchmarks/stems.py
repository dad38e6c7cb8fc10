"""A strided first convolution in int8, as it is and folded into depth (compress/quantize/passes/stem_to_depth.py).

python -m tests.benchmarks.stems
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from edgelathe.bench.latency import measure_latency
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.passes.exact_pixels import PIXELS, exact_pixels
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.passes.stem_to_depth import stem_to_depth
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.plan import plan_from

from .command import end_well

SIDE, CHANNELS = 224, {3: 32, 7: 64}
"""Output channels by kernel: the stems of MobileNetV2 and ResNet-50."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def float_stem(kernel: int, path: Path) -> None:
    """The convolution, ReLU, a small 1 x 1 convolution and pooling, with seeded random weights."""
    outputs, pad = CHANNELS[kernel], kernel // 2
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    stem (float[N,3,{SIDE},{SIDE}] x) => (float[N,16,1,1] y) {{
      c = Conv <pads = [{pad},{pad},{pad},{pad}], strides = [2,2]> (x, w0)
      r = Relu (c)
      d = Conv (r, w1)
      y = GlobalAveragePool (d)
    }}"""
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(kernel)
    for name, shape in (("w0", (outputs, 3, kernel, kernel)), ("w1", (16, outputs, 1, 1))):
        weight = random.normal(size=shape, scale=0.1).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(model, path)


def int8_stem(source: Path, path: Path, *, fold: bool) -> None:
    model = exact_pixels(prepare(source), MEAN, STD)
    assert model is not None
    if fold:
        assert stem_to_depth(model, PIXELS)
    images = np.random.default_rng(0).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    placement = place(model)
    statistics = calibrate(model, placement.values, images)
    plan = plan_from(model, placement, statistics, target="x86-vnni", method="minmax", per_channel=True)
    path.write_bytes(ir.to_proto(apply_plan(model, plan)).SerializeToString())


def run(seconds: float) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kernel in CHANNELS:
            files = {kind: folder / f"{kernel}-{kind}.onnx" for kind in ("as it is", "folded", "float")}
            float_stem(kernel, files["float"])
            for kind, fold in (("as it is", False), ("folded", True)):
                int8_stem(files["float"], files[kind], fold=fold)
            measured = measure_latency(files, reference="as it is", seconds=seconds, seed=0)
            for kind, found in measured.items():
                ratio = f"{found.ratio:.3f} ({found.ratio_low:.3f}-{found.ratio_high:.3f})"
                sys.stdout.write(f"{kernel} x {kernel}, {kind}: {found.median_ms:.3f} ms, {ratio}\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="budget of each measurement")
    asked = parser.parse_args()
    sys.exit(end_well(lambda: run(asked.seconds)))
