from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgelathe.compress.pack.onnx_tensors import find_tensors
from onnx import TensorProto, helper, numpy_helper


def test_every_stored_tensor_is_found_where_it_lies(int8_model: onnx.ModelProto) -> None:
    file = int8_model.SerializeToString()
    found = {tensor.name: tensor for tensor in find_tensors(file)}
    for tensor in int8_model.graph.initializer:
        place = found[tensor.name]
        assert file[place.start : place.stop] == tensor.raw_data
        assert (place.shape, place.type) == (tuple(tensor.dims), tensor.data_type)
    starts = [tensor.start for tensor in find_tensors(file)]
    assert starts == sorted(starts)
    assert found[""].type == TensorProto.FLOAT16


def test_tensors_of_inner_graphs_functions_and_sparse_ones_are_found(float_model: onnx.ModelProto) -> None:
    def constant(name: str) -> onnx.NodeProto:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
        return helper.make_node("Constant", [], ["k"], value=tensor)

    inner = helper.make_graph([constant("inner")], "inner", [], [helper.make_tensor_value_info("k", 1, [4])])
    float_model.graph.node.append(helper.make_node("If", ["t"], ["o"], then_branch=inner, else_branch=inner))
    float_model.functions.append(
        helper.make_function("own", "f", [], ["k"], [constant("function")], [helper.make_opsetid("", 17)])
    )
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "values"), numpy_helper.from_array(np.arange(2), "at"), [9]
    )
    float_model.graph.sparse_initializer.append(sparse)
    names = [tensor.name for tensor in find_tensors(float_model.SerializeToString())]
    assert sorted(names) == sorted(["inner", "inner", "function", "values", "at", "w", "fc", "c"])


def test_values_outside_of_raw_data_and_of_other_files_are_left_where_they_are(float_model: onnx.ModelProto) -> None:
    float_model.graph.initializer.append(helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.0, 2.0]))
    assert "typed" not in {tensor.name for tensor in find_tensors(float_model.SerializeToString())}


def test_packed_and_single_dimensions_are_the_same() -> None:
    """protobuf writes repeated numbers packed or one by one."""
    raw = b"\x4a\x02\x01\x02"
    for dims in (b"\x0a\x03\x02\x81\x01", b"\x08\x02\x08\x81\x01"):
        tensor = dims + b"\x10\x03" + raw
        graph = b"\x2a" + bytes([len(tensor)]) + tensor
        (found,) = find_tensors(b"\x3a" + bytes([len(graph)]) + graph)
        assert (found.shape, found.type) == ((2, 129), TensorProto.INT8)


@pytest.mark.parametrize(
    "file",
    [
        b"\x3a\x05\x08",  # a graph longer than the file
        b"\x08",  # a field without a value
        b"\xff" * 12,  # a number without an end
        b"\x0b",  # a group, which protobuf gave up
        b"\x02\x00",  # field number 0
        b"\x09\x00",  # eight bytes that are not there
    ],
)
def test_what_is_no_message_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        find_tensors(file)


def test_graphs_nested_without_end_are_refused() -> None:
    message = b""
    for _ in range(40):  # an attribute's graph, a node's attribute, a graph's node
        for field in (0x32, 0x2A, 0x0A):
            length, size = [], len(message)
            while size > 0x7F:
                length.append(size & 0x7F | 0x80)
                size >>= 7
            message = bytes([field, *length, size]) + message
    with pytest.raises(ValueError, match="nested"):
        find_tensors(b"\x3a" + bytes([len(message) & 0x7F | 0x80, len(message) >> 7]) + message)
