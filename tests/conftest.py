"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images and weights, named by EDGELATHE_TEST_DATA."""
    folder = os.environ.get("EDGELATHE_TEST_DATA")
    if not folder:
        pytest.skip("EDGELATHE_TEST_DATA does not name a folder of real images and weights")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"EDGELATHE_TEST_DATA names {folder}, which is no folder")
    return path.resolve()


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a CIFAR ResNet of `depth` layers (option A shortcuts, batch norm folded, seeded weights)."""
    folder = tmp_path_factory.mktemp("resnets")

    def save(depth: int, width: int = 16) -> Path:
        path = folder / f"resnet{depth}-{width}.onnx"
        if not path.exists():
            onnx.save_model(_cifar_resnet((depth - 2) // 6, width), path)
        return path

    return save


def _cifar_resnet(blocks: int, width: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def keep(name: str, array: np.ndarray) -> str:
        stored.append(numpy_helper.from_array(array, name))
        return name

    def add(op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(x: str, channels: int, filters: int, stride: int) -> str:
        scale = np.float32(np.sqrt(2 / (9 * channels)))
        shape = (filters, channels, 3, 3)
        weight = keep(f"w{len(stored)}", random.standard_normal(shape).astype(np.float32) * scale)
        bias = keep(f"b{len(stored)}", np.zeros(filters, np.float32))
        return add("Conv", [x, weight, bias], pads=[1] * 4, strides=[stride] * 2)

    channels = width
    x = add("Relu", [conv("input", 3, channels, 1)])
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = conv(add("Relu", [conv(x, channels, filters, stride)]), filters, filters, 1)
            if channels != filters:
                cut = {"starts": [0, 0], "ends": [99, 99], "axes": [2, 3], "steps": [2, 2]}
                names = [keep(f"{k}{stage}", np.array(v, np.int64)) for k, v in cut.items()]
                half = channels // 2
                pads = keep(f"pads{stage}", np.array([0, half, 0, 0, 0, half, 0, 0], np.int64))
                x = add("Pad", [add("Slice", [x, *names]), pads])
            x = add("Relu", [add("Add", [y, x])])
            channels = filters
    pooled = add("ReduceMean", [x, keep("axes", np.array([2, 3], np.int64))], keepdims=0)
    weight = keep("fc.weight", random.standard_normal((10, channels)).astype(np.float32))
    bias = keep("fc.bias", np.zeros(10, np.float32))
    nodes.append(helper.make_node("Gemm", [pooled, weight, bias], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model
