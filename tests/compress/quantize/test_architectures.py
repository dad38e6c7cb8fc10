"""Tiny members of the torchvision families: everything that holds weights in int8, every float operator explained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from edgelathe.compress.quantize.placing.refusals import NO_KERNEL
from edgelathe.compress.quantize.quantize import Quantized, quantize
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from .conftest import decibels, images, run

SIDE = 32


def mobilenet_v3() -> nn.Module:
    blocks = [(16, 3, 16, 16, True, "RE", 2), (16, 5, 48, 24, True, "HS", 2), (24, 5, 48, 24, False, "HS", 1)]
    return zoo.MobileNetV3(
        [InvertedResidualConfig(*block, 1, 1.0) for block in blocks], last_channel=64, num_classes=10
    )


def regnet() -> nn.Module:
    parameters = zoo.regnet.BlockParams.from_init_params(
        depth=4, w_0=16, w_a=16.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    return zoo.RegNet(parameters, num_classes=10, stem_width=16)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "densenet": (lambda: zoo.DenseNet(8, (2, 2), 16, num_classes=10), 33.0),
    "googlenet": (partial(zoo.googlenet, num_classes=10, init_weights=False, aux_logits=False), 26.0),
    "mnasnet": (lambda: zoo.MNASNet(0.25, num_classes=10), 20.0),
    "mobilenet_v3": (mobilenet_v3, 24.0),
    "regnet": (regnet, 26.0),
    "shufflenet": (lambda: zoo.ShuffleNetV2([1, 2, 1], [8, 16, 32, 64, 64], num_classes=10), 26.0),
}
"""Network and the least decibels of signal over quantization noise."""
TRANSFORMERS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "convnext": (lambda: zoo.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=10), 26.0),
    "swin": (lambda: zoo.SwinTransformer([4, 4], 16, [2], [2], [4, 4], num_classes=10), 26.0),
    "vit": (lambda: zoo.VisionTransformer(SIDE, 8, 2, 2, 32, 64, num_classes=10), 26.0),
}


def quantized(build: Callable[[], nn.Module], folder: Path, floor: float) -> Quantized:
    torch.manual_seed(0)
    model = build()
    x = images(16, (3, SIDE, SIDE), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:  # heads that are born as zeros
                nn.init.normal_(parameter, std=0.1)
        for _ in range(4):  # with the statistics it is born with, a network's activations fade
            model.train()(torch.from_numpy(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The older exporter: a tenth of a second instead of several, and a graph with more left to fold.
        torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, SIDE, SIDE),), folder / "float.onnx", dynamo=False, opset_version=17
        )
    result = quantize(folder / "float.onnx", folder / "int8.onnx", x)
    float_logits, int8_logits = (
        np.concatenate([run(folder / name, x[i : i + 1]) for i in range(8)]) for name in ("float.onnx", "int8.onnx")
    )
    assert decibels(float_logits, int8_logits) > floor
    return result


@pytest.mark.parametrize(("build", "floor"), FAMILIES.values(), ids=FAMILIES.keys())
def test_convolutional_networks_run_in_int8_throughout(
    build: Callable[[], nn.Module], floor: float, tmp_path: Path
) -> None:
    result = quantized(build, tmp_path, floor)
    in_float = {node.op: node.reason for node in result.audit.nodes if node.kind == "float"}
    assert set(in_float) <= {"HardSigmoid"}
    assert result.audit.broken_promises == ()


@pytest.mark.parametrize(("build", "floor"), TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_transformers_multiply_by_weights_in_int8(build: Callable[[], nn.Module], floor: float, tmp_path: Path) -> None:
    result = quantized(build, tmp_path, floor)
    assert result.audit.broken_promises == ()
    for node in result.audit.nodes:
        if node.op in ("Conv", "Gemm"):
            assert node.kind == "int8"
        if node.op == "MatMul" and node.kind == "float":
            assert node.reason.startswith("both of its sides are activations")
        if node.op in NO_KERNEL:
            assert node.reason == NO_KERNEL[node.op]
        assert (node.kind == "float") == bool(node.reason and node.kind != "absorbed")
