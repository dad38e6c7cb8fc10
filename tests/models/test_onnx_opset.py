from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.errors import EdgeLatheError
from edgelathe.models.onnx_opset import RAISED, modernize, opset_of
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
WEIGHT, BIAS = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32), np.ones(4, np.float32)


def old_file(opset: int, ir_version: int, middle: onnx.NodeProto | None = None) -> onnx.ModelProto:
    """A convolution, something in the middle and a mean; weights are inputs as well where the IR wants that."""
    stored = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims) for tensor in stored]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1] * 4),
        middle or helper.make_node("Clip", ["c"], ["m"], name="clip", min=0.0, max=6.0),
        helper.make_node("GlobalAveragePool", ["m"], ["y"], name="pool"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 1, 1])]
    graph = helper.make_graph(nodes, "old", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    helper.set_model_props(model, {"mine": "kept"})
    return model


def run(model: onnx.ModelProto | str, x: np.ndarray) -> Any:
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 3), (9, 4), (10, 4)])
@pytest.mark.parametrize("oldest", [13, 21])
def test_old_files_compute_the_same_in_a_newer_opset(opset: int, ir_version: int, oldest: int) -> None:
    proto = old_file(opset, ir_version)
    x = RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)
    wanted = run(proto, x)
    raised = modernize(proto, "old.onnx", oldest=oldest, need="that need")
    onnx.checker.check_model(raised, full_check=True)
    assert opset_of(raised) == oldest
    assert raised.ir_version >= helper.find_min_ir_version_for(raised.opset_import)
    assert [value.name for value in raised.graph.input] == ["x"]
    assert {entry.key: entry.value for entry in raised.metadata_props} == {
        "mine": "kept",
        RAISED: f"{opset} to {oldest}",
    }
    np.testing.assert_array_equal(run(raised, x), wanted)


def test_new_files_stay_as_they_are() -> None:
    proto = old_file(13, 8, helper.make_node("Relu", ["c"], ["m"]))
    before = proto.SerializeToString()
    assert modernize(proto, "new.onnx", oldest=13, need="that need").SerializeToString() == before


@pytest.mark.parametrize(
    ("opset", "middle", "oldest", "why"),
    [
        (6, helper.make_node("Affine", ["c"], ["m"], alpha=1.0), 13, "it does not know the operator Affine"),
        (
            9,
            helper.make_node("BatchNormalization", ["c", "b", "b", "b", "b"], ["m", "1", "2", "3", "4"]),
            21,
            "BatchNormalization outputs 4 and 5 are not supported in Opset 14.",
        ),
    ],
)
def test_what_cannot_be_raised_is_refused_with_what_to_do(
    opset: int, middle: onnx.NodeProto, oldest: int, why: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        modernize(old_file(opset, 4, middle), "old.onnx", oldest=oldest, need="per-channel scales need")
    assert str(caught.value) == (
        f"Cannot raise old.onnx from opset {opset} to {oldest}, which per-channel scales need: ONNX's version "
        f"converter refuses it ({why}); export the model again with opset {oldest} or newer."
    )


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 3), (11, 6)])
def test_old_files_are_quantized_with_a_scale_per_channel_and_say_that_they_were_raised(
    opset: int, ir_version: int, tmp_path: Path
) -> None:
    middle = helper.make_node("Relu", ["c"], ["m"], name="relu")
    onnx.save(old_file(opset, ir_version, middle), tmp_path / "old.onnx")
    x = RANDOM.standard_normal((8, 3, 8, 8)).astype(np.float32)
    result = quantize(tmp_path / "old.onnx", tmp_path / "int8.onnx", x)
    assert {node.name: node.kind for node in result.plan.nodes}["conv"] == "int8"
    made = onnx.load(tmp_path / "int8.onnx")
    assert opset_of(made) == 13
    assert [value.name for value in made.graph.input] == ["x"]
    assert {entry.key: entry.value for entry in made.metadata_props}[RAISED] == f"{opset} to 13"
    scales = [numpy_helper.to_array(tensor) for tensor in made.graph.initializer if "scale" in tensor.name]
    assert any(array.shape == (4,) for array in scales)
    wanted, found = (run(str(tmp_path / name), x[:1]) for name in ("old.onnx", "int8.onnx"))
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
