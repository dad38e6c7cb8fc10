from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.models.onnx_file import load_onnx
from onnx import TensorProto, helper, numpy_helper


def saved(path: Path, indices: list[int] | list[list[int]], dims: list[int]) -> Path:
    """x @ w with a sparse w, whose three values are 1, 2 and 3."""
    weight = onnx.SparseTensorProto(dims=dims)
    weight.values.CopyFrom(numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w"))
    weight.indices.CopyFrom(numpy_helper.from_array(np.array(indices, np.int64), "w_places"))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", dims[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", dims[1]])],
        sparse_initializer=[weight],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    )
    return path


@pytest.mark.parametrize("indices", [[1, 3, 5], [[0, 1], [1, 1], [2, 1]]], ids=["places", "coordinates"])
def test_values_come_to_their_places(tmp_path: Path, indices: list[int] | list[list[int]]) -> None:
    model = load_onnx(saved(tmp_path / "m.onnx", indices, [3, 2]))
    assert not model.graph.sparse_initializer
    (weight,) = model.graph.initializer
    assert weight.name == "w"
    assert numpy_helper.to_array(weight).tolist() == [[0, 1], [0, 2], [0, 3]]


def test_a_few_bytes_that_claim_a_huge_tensor_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [0, 1, 2], [2**31, 2**31])
    with pytest.raises(EdgeLatheError, match=rf'its sparse tensor "w" has {2**62} elements'):
        load_onnx(path)


def test_places_outside_of_the_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="it breaks the standard"):
        load_onnx(saved(tmp_path / "m.onnx", [0, 1, 6], [3, 2]))
