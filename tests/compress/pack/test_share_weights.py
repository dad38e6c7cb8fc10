from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from edgelathe.compress.pack.pack import pack_bytes, unpack_bytes
from edgelathe.compress.pack.share_weights import share_weights, shared_model, shared_values
from edgelathe.errors import EdgeLatheError
from edgelathe.files import sha256_file
from onnx import numpy_helper


@pytest.fixture
def path(tmp_path: Path, float_model: onnx.ModelProto) -> Path:
    onnx.helper.set_model_props(float_model, {"edgelathe.mean": "[0.5]"})
    onnx.save(float_model, tmp_path / "toy.onnx")
    return tmp_path / "toy.onnx"


def arrays(file: bytes) -> dict[str, np.ndarray]:
    model = onnx.load_from_string(file)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_each_layer_has_a_codebook_of_its_own_and_zeros_stay(path: Path, weights: dict[str, np.ndarray]) -> None:
    file, result = shared_model(path, bits=3, layer_bits={"fc": 4})
    shared = arrays(file)
    assert len(np.unique(shared["w"][shared["w"] != 0])) == 8
    assert len(np.unique(shared["fc"])) == 16
    np.testing.assert_array_equal(shared["w"] == 0, weights["w"] == 0)
    np.testing.assert_array_equal(shared["c"], weights["c"])
    by_name = {weight.name: weight for weight in result.weights}
    assert (by_name["w"].bits, by_name["w"].values) == (3, 9)
    assert by_name["w"].zeros == pytest.approx(np.mean(weights["w"] == 0))
    change = np.linalg.norm(shared["fc"] - weights["fc"]) / np.linalg.norm(weights["fc"])
    assert by_name["fc"].error == pytest.approx(change, rel=1e-5)
    assert "2 of 2 layers share values of 3 to 4 bits" in result.summary()


def test_the_file_runs_and_differs_less_the_more_bits_it_has(path: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((4, 8, 6, 6)).astype(np.float32)
    (truth,) = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": images})
    errors = []
    for bits in (2, 4, 6):
        share_weights(path, tmp_path / "shared.onnx", bits=bits)
        onnx.checker.check_model(onnx.load(tmp_path / "shared.onnx"), full_check=True)
        (found,) = onnx.reference.ReferenceEvaluator(str(tmp_path / "shared.onnx")).run(None, {"x": images})
        errors.append(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_the_file_says_what_it_is_and_comes_back_from_packing(path: Path) -> None:
    file, _ = shared_model(path, bits=4)
    properties = {entry.key: entry.value for entry in onnx.load_from_string(file).metadata_props}
    assert properties == {
        "edgelathe.mean": "[0.5]",
        "edgelathe.weights": "shared, 4 bits",
        "edgelathe.parent_sha256": sha256_file(path),
    }
    data, packed = pack_bytes(file)
    known = {name: len(np.unique(array)) for name, array in arrays(file).items()}
    assert {tensor.name: (tensor.coding, tensor.values) for tensor in packed.tensors} == {
        "w": ("codebook", known["w"]),
        "fc": ("codebook", known["fc"]),
    }
    assert known["w"] <= 17
    assert unpack_bytes(data, path) == file
    assert len(data) < 0.3 * len(file)


def test_values_by_hand() -> None:
    weight = np.array([[0.0, 1.0, 3.0], [-2.0, -4.0, 0.0]], np.float32)
    shared = shared_values(weight, 1)
    assert not isinstance(shared, str)
    np.testing.assert_array_equal(shared, [[0.0, 2.0, 2.0], [-3.0, -3.0, 0.0]])


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (np.array([1.0, 2.0, 0.0], np.float32), "no more than 2 weights"),
        (np.array([1.0, np.nan, 2.0], np.float32), "no finite numbers"),
        (np.zeros(9, np.float32), "no more than 2 weights"),
    ],
)
def test_weights_that_cannot_share_are_left_with_the_reason(weight: np.ndarray, why: str) -> None:
    found = shared_values(weight, 1)
    assert isinstance(found, str)
    assert why in found


def test_what_cannot_be_asked_is_refused(path: Path, tmp_path: Path, int8_model: onnx.ModelProto) -> None:
    with pytest.raises(EdgeLatheError, match="bits = 9: it must be 1 to 8"):
        shared_model(path, bits=9)
    with pytest.raises(EdgeLatheError, match="fc = 0: it must be 1 to 8"):
        shared_model(path, layer_bits={"fc": 0})
    with pytest.raises(EdgeLatheError, match='Unknown layer "fd": did you mean "fc"'):
        shared_model(path, layer_bits={"fd": 4})
    with pytest.raises(EdgeLatheError, match="it has no more than 256 weights"):
        small = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x) => (float[1,2] y) '
            "<float[2,2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }"
        )
        onnx.save(small, tmp_path / "small.onnx")
        shared_model(tmp_path / "small.onnx", bits=8)
    onnx.save(int8_model, tmp_path / "int8.onnx")
    with pytest.raises(EdgeLatheError, match="leave the bits out"):
        shared_model(tmp_path / "int8.onnx")
