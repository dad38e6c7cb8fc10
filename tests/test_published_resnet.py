"""Real weights on real images through export and int8: a published ResNet-20 on CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edgelathe.bench.accuracy import accuracy, agreement, predict
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.data import Preprocess, load_data
from edgelathe.export.to_onnx import export_onnx
from edgelathe.imagesequence import ImageSequence
from edgelathe.models.weights import load_weights
from edgelathe.models.zoo import build

PREPROCESS = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.slow
def test_int8_resnet20_answers_as_float_does(test_data: Path, tmp_path: Path) -> None:
    data = load_data("cifar10", test_data / "cifar10", limit_train=512)
    network = build("cifar_resnet20", num_classes=10)
    load_weights(network, next((test_data / "weights" / "cifar10").glob("resnet20-*.th")))
    export_onnx(network, torch.zeros(1, 3, 32, 32), tmp_path / "float.onnx")
    result = quantize(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", ImageSequence(data.calibration(512, 0).x, PREPROCESS)
    )

    assert {node.kind for node in result.audit.nodes if node.op in ("Conv", "Add", "Gemm")} == {"int8"}
    assert result.audit.survivors == ()
    whole = predict(tmp_path / "float.onnx", data.test.x, PREPROCESS)
    coded = predict(tmp_path / "int8.onnx", data.test.x, PREPROCESS)
    assert accuracy(whole, data.test.y).correct == 915
    # 992 agreed when this was written; the bound leaves room for other processors, not for a broken layer.
    assert agreement(coded, whole).correct >= 980
    assert abs(int(np.sum(coded == data.test.y)) - 915) <= 10
    assert (tmp_path / "int8.onnx").stat().st_size < 0.33 * (tmp_path / "float.onnx").stat().st_size
