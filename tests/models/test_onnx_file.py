from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.models.onnx_file import read_onnx, type_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

DOWNLOAD = "export or download the file again, and check that it is an ONNX model."


def tiny_model(weight: onnx.TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", weight.name], ["y"], name="fc")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def refusal(path: Path) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        read_onnx(path)
    return str(caught.value)


def external_model(folder: Path, location: str, offset: int = 0, length: int | None = 48) -> Path:
    tensor = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    model = tiny_model(tensor)
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset} | ({} if length is None else {"length": length})
    for key, value in entries.items():
        stored.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    assert refusal(path) == f"Cannot read the model {path}: there is no such file; check the path."


def test_a_folder_is_refused(tmp_path: Path) -> None:
    expected = f"Cannot read the model {tmp_path}: it is a folder; name the .onnx file inside it."
    assert refusal(tmp_path) == expected


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    assert refusal(path) == f"Cannot read the model {path}: it is empty; {DOWNLOAD}"


@pytest.mark.parametrize("content", [b"hello, this is text\n" * 9, b"PK\x03\x04" + bytes(200), b"\x00" * 64])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert refusal(path) == f"Cannot read the model {path}: it is truncated or no ONNX file; {DOWNLOAD}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 0.999))
def test_every_truncation_is_refused_in_one_sentence(
    share: float, tmp_path: Path, resnet_file: Callable[..., Path]
) -> None:
    whole = resnet_file(8, 4).read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(share * len(whole))])
    assert refusal(path).startswith(f"Cannot read the model {path}: it is ")


def test_a_file_with_another_extension_is_read_as_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    model = tiny_model(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    path.write_bytes(model.SerializeToString())
    assert read_onnx(path).model.graph.node[0].op_type == "Gemm"


def test_reading_what_nothing_produces_is_refused(tmp_path: Path) -> None:
    model = tiny_model(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    model.graph.node[0].input[1] = "ghost"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert refusal(path) == (
        f'Cannot read the model {path}: its operator Gemm "fc" reads "ghost", which nothing before it '
        f"produces; {DOWNLOAD}"
    )


def test_an_output_that_nothing_produces_is_refused(tmp_path: Path) -> None:
    model = tiny_model(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    model.graph.output[0].name = "ghost"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert 'nothing produces its output "ghost"' in refusal(path)


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    file = read_onnx(external_model(tmp_path, "w.bin"))
    assert file.external == (tmp_path / "w.bin",)
    array = numpy_helper.to_array(file.model.graph.initializer[0])
    assert array.tolist() == np.arange(12, dtype=np.float32).reshape(4, 3).tolist()


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = external_model(tmp_path, "w.bin")
    assert refusal(path) == (
        f'Cannot read the model {path}: its tensor "w" is kept in "w.bin", and there is no such file; '
        "put the data file beside the model, or save the model with its weights inside."
    )


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "", "."])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    folder = tmp_path / "models"
    folder.mkdir()
    assert "which lies outside the model's folder" in refusal(external_model(folder, location))


def test_absolute_external_data_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    folder = tmp_path / "models"
    folder.mkdir()
    assert "which lies outside the model's folder" in refusal(external_model(folder, str(secret)))


def test_external_data_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "w.bin").symlink_to(secret)
    assert "which lies outside the model's folder" in refusal(external_model(folder, "w.bin"))


@pytest.mark.parametrize(("offset", "length"), [(0, 48), (16, None), (-8, 16), (0, 4096)])
def test_external_data_that_ends_early_is_refused(tmp_path: Path, offset: int, length: int | None) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(40))
    assert "which ends before it (40 bytes)" in refusal(external_model(tmp_path, "w.bin", offset, length))


def test_type_names_carry_their_width() -> None:
    names = [type_name(kind) for kind in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT8, 999)]
    assert names == ["float32", "float64", "int8", "undefined"]
