"""What ONNX Runtime makes of a convolution stored in 32, 16 and 8 bits, and how long it takes on one thread.

python -m tests.benchmarks.sixteen_bits
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, RUNS = 32, 56, 30
SHAPE = [1, CHANNELS, SIDE, SIDE]
WEIGHT = (np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3)) * 0.1).astype(np.float32)


def float_model(kind: int) -> onnx.ModelProto:
    weight = WEIGHT.astype(helper.tensor_dtype_to_np_dtype(kind))
    convolution = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    return _model([convolution], [numpy_helper.from_array(weight, "w")], kind)


def coded_model(activations: type, weights: type) -> onnx.ModelProto:
    """QuantizeLinear, DequantizeLinear, Conv, QuantizeLinear, DequantizeLinear in codes of these types."""
    code, limit = np.iinfo(activations), np.iinfo(weights).max
    scale = np.float32(np.abs(WEIGHT).max() / limit)
    zero = 0 if code.min else (code.max + 1) // 2
    stored = {
        "wq": np.round(WEIGHT / scale).astype(weights),
        "ws": scale,
        "wz": np.zeros((), weights),
        "s": np.float32(16 / code.max),
        "z": np.array(zero, activations),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["c"], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    return _model(nodes, arrays, TensorProto.FLOAT)


def measure(model: onnx.ModelProto) -> tuple[list[str], float]:
    """Operators of the runtime's graph, and the median run in milliseconds."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    kind = np.float16 if "float16" in session.get_inputs()[0].type else np.float32
    x = np.random.default_rng(1).normal(size=SHAPE).astype(kind)
    times = []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        session.run(None, {"x": x})
        times.append(time.perf_counter() - begun)
    return operators, float(np.median(times[1:])) * 1e3


def _model(nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], kind: int) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, kind, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "convolution", ports[:1], ports[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


MODELS = {
    "float32": float_model(TensorProto.FLOAT),
    "uint8, int8": coded_model(np.uint8, np.int8),
    "float16": float_model(TensorProto.FLOAT16),
    "uint16, int8": coded_model(np.uint16, np.int8),
    "uint16, int16": coded_model(np.uint16, np.int16),
    "int16, int16": coded_model(np.int16, np.int16),
}


if __name__ == "__main__":
    for name, model in MODELS.items():
        operators, milliseconds = measure(model)
        print(f"{name:14s} {milliseconds:.2f} ms  {', '.join(operators)}")  # noqa: T201
