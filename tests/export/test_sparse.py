from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.errors import EdgeLatheError
from edgelathe.export.sparse import float_weights, write_sparse
from edgelathe.export.to_onnx import export_onnx
from edgelathe.models.onnx_file import load_onnx
from torch import nn


def written(path: Path, kept: float) -> Path:
    """A file of two convolutions and a classifier; of the second convolution a share of `kept` weights is not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
        )
        with torch.no_grad():
            weight = network[2].weight
            weight.masked_fill_(torch.rand(weight.shape) >= kept, 0)
    export_onnx(network, torch.zeros(1, 3, 8, 8), path)
    return path


def answers(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=np.float32)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def test_few_weights_are_smaller_as_values_and_places_and_compute_the_same(tmp_path: Path) -> None:
    dense, sparse = written(tmp_path / "dense.onnx", 0.1), tmp_path / "sparse.onnx"
    result = write_sparse(dense, sparse)
    assert result.sparse == ("2.weight",)
    assert (result.bytes_before, result.bytes_after) == (dense.stat().st_size, sparse.stat().st_size)
    weights = {tensor.name: array for tensor, array in float_weights(load_onnx(dense))}
    kept = np.count_nonzero(weights["2.weight"])
    # 4 bytes for each of 1152 weights become 4 + 8 for each that is kept, and less than 100 of framing.
    assert 0 <= result.bytes_before - result.bytes_after - (4 * 1152 - 12 * kept) + 100 <= 200
    assert np.array_equal(answers(sparse), answers(dense))


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.36])
def test_with_over_a_third_of_the_weights_left_nothing_is_gained_or_written(tmp_path: Path, kept: float) -> None:
    result = write_sparse(written(tmp_path / "dense.onnx", kept), tmp_path / "sparse.onnx")
    assert result.sparse == ()
    assert result.bytes_after == result.bytes_before
    assert not (tmp_path / "sparse.onnx").exists()


def test_a_weight_without_a_value_stays_dense(tmp_path: Path) -> None:
    assert write_sparse(written(tmp_path / "dense.onnx", 0.0), tmp_path / "sparse.onnx").sparse == ()


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    dense = written(tmp_path / "dense.onnx", 0.1)
    for name in ("a", "b"):
        write_sparse(dense, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_sparse_file_is_quantized_like_the_dense_one(tmp_path: Path) -> None:
    dense, sparse = written(tmp_path / "dense.onnx", 0.1), tmp_path / "sparse.onnx"
    write_sparse(dense, sparse)
    images = np.random.default_rng(1).standard_normal((16, 3, 8, 8), dtype=np.float32)
    codes = []
    for path in (dense, sparse):
        quantize(path, tmp_path / "int8.onnx", images)
        model = onnx.load(tmp_path / "int8.onnx")
        codes.append({tensor.name: tensor.SerializeToString() for tensor in model.graph.initializer})
    assert codes[0] == codes[1]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        write_sparse(tmp_path / "none.onnx", tmp_path / "sparse.onnx")
