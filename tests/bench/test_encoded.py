from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.encoded import StoredSize, encoded_bytes, stored_size
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper


def test_sizes_computed_by_hand() -> None:
    assert encoded_bytes(100, 25, 4) == 111  # 25 floats, and 100 times 0.8113 bits, which are 10.1 bytes
    assert encoded_bytes(800, 400, 1) == 400 + 100  # half: one bit for each
    assert encoded_bytes(100, 100, 4) == 400
    assert encoded_bytes(1000, 999, 1) == 1000  # the places of one zero would take more than it saves
    assert encoded_bytes(64, 0, 1) == 0
    assert encoded_bytes(10, 10, 0.5) == 5
    assert encoded_bytes(0, 0, 4) == 0


@given(values=st.integers(1, 10**6), share=st.floats(0, 1), width=st.sampled_from((0.5, 1.0, 4.0)))
def test_zeros_never_cost(values: int, share: float, width: float) -> None:
    nonzero = int(share * values)
    assert encoded_bytes(values, nonzero, width) <= encoded_bytes(values, values, width)
    assert encoded_bytes(values, max(0, nonzero - 1), width) <= encoded_bytes(values, nonzero, width)


@pytest.fixture
def weight() -> np.ndarray:
    """float32 [10, 32] of which 64 are not zero."""
    values = np.zeros(320, np.float32)
    values[::5] = 1.0
    return values.reshape(10, 32)


def saved(path: Path, weight: np.ndarray, *, sparse: bool) -> Path:
    bias = numpy_helper.from_array(np.arange(10, dtype=np.float32), "bias")
    node = helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)
    graph = helper.make_graph(
        [node],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [bias] if sparse else [numpy_helper.from_array(weight, "weight"), bias],
    )
    if sparse:
        indices = np.flatnonzero(weight)
        values = numpy_helper.from_array(weight.ravel()[indices], "weight")
        places = numpy_helper.from_array(indices.astype(np.int64), "weight.places")
        graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, weight.shape))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("sparse", [False, True])
def test_a_file_is_counted_the_same_whether_its_zeros_are_stored_or_not(
    tmp_path: Path, weight: np.ndarray, sparse: bool
) -> None:
    found = stored_size(saved(tmp_path / "toy.onnx", weight, sparse=sparse))
    # 64 floats and 320 times 0.7219 bits, which are 28.9 bytes; of the bias 9 floats and 0.6 bytes.
    assert found == StoredSize(parameters=330, nonzero=64 + 9, encoded_bytes=285 + 37)


def test_a_damaged_file_is_refused(tmp_path: Path, weight: np.ndarray) -> None:
    path = saved(tmp_path / "toy.onnx", weight, sparse=False)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EdgeLatheError, match="truncated"):
        stored_size(path)
