from __future__ import annotations

import lzma
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.pack import pack as module
from edgelathe.compress.pack.container import compress, read_container, write_container
from edgelathe.compress.pack.pack import pack, pack_bytes, packed_size, unpack, unpack_bytes
from edgelathe.errors import EdgeLatheError
from edgelathe.files import sha256_file
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SOURCE = Path("model.elp")
WIDTHS = {
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT4: 4,
    TensorProto.FLOAT: 32,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.DOUBLE: 64,
    TensorProto.STRING: 0,
}


@pytest.fixture
def model(tmp_path: Path, int8_model: onnx.ModelProto) -> Path:
    path = tmp_path / "toy.onnx"
    path.write_bytes(int8_model.SerializeToString())
    return path


@st.composite
def random_models(draw: Callable[..., object]) -> bytes:
    """Tensors of any type, shape and bytes, some of a length that their shape does not have, in a graph of noise."""
    tensors = []
    for number in range(draw(st.integers(0, 3))):  # type: ignore[call-overload]
        type_ = draw(st.sampled_from(list(WIDTHS)))
        shape = draw(st.lists(st.integers(1, 9), max_size=4))
        seed = draw(st.integers(0, 2**32 - 1))
        alphabet = draw(st.sampled_from([1, 3, 40, 256]))
        extra = draw(st.sampled_from([0, 0, 0, 1, 70]))
        random = np.random.default_rng(seed)
        length = (int(np.prod(shape)) * WIDTHS[type_] + 7) // 8 + extra
        raw = random.integers(0, alphabet, length).astype(np.uint8).tobytes()
        tensors.append(TensorProto(name=f"t{number}", data_type=type_, dims=shape, raw_data=raw))
    graph = helper.make_graph([], draw(st.text(max_size=30)), [], [], initializer=tensors)
    made = helper.make_model(graph, doc_string=draw(st.text(max_size=200)))
    unknown = draw(st.sampled_from([b"", b"\xfa\x3f\x03abc"]))  # a field that this version of ONNX does not know
    return made.SerializeToString() + unknown


@settings(max_examples=60, deadline=None)
@given(random_models())
def test_unpack_gives_the_packed_bytes(file: bytes) -> None:
    data, packed = pack_bytes(file)
    assert unpack_bytes(data, SOURCE) == file
    assert (packed.bytes_before, packed.bytes_after) == (len(file), len(data))
    accounted = packed.structure_bytes + packed.planes_bytes + sum(tensor.bytes_after for tensor in packed.tensors)
    assert accounted == len(data)


def test_each_tensor_gets_the_coding_that_suits_it(model: Path, tmp_path: Path) -> None:
    packed = pack(model, tmp_path / "toy.elp")
    found = {tensor.name: (tensor.type, tensor.coding) for tensor in packed.tensors}
    assert found["w_q"] == ("int8", "bytes")
    assert found[""] == ("float16", "planes")
    assert found.keys() == {"w_q", "fc_q", ""}
    unpacked = unpack(tmp_path / "toy.elp", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == model.read_bytes()
    assert unpacked.sha256 == packed.sha256 == sha256_file(model)
    assert unpacked.bytes_after == packed.bytes_before == model.stat().st_size
    assert packed.bytes_after == (tmp_path / "toy.elp").stat().st_size == packed_size(model)
    assert f"{packed.bytes_before} bytes packed into {packed.bytes_after}" in packed.summary()


def test_int8_weights_take_less_than_xz_makes_of_them() -> None:
    weights = np.clip(np.random.default_rng(0).laplace(0, 20, (64, 128, 3, 3)), -127, 127).astype(np.int8)
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(weights, "w")])
    file = helper.make_model(graph).SerializeToString()
    assert pack_bytes(file)[1].bytes_after < len(lzma.compress(file, preset=9 | lzma.PRESET_EXTREME))


def test_few_values_of_a_wide_type_become_a_codebook(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal(7).astype(np.float32)[random.integers(0, 7, (40, 10, 3, 3))]
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(values, "w")])
    file = helper.make_model(graph).SerializeToString()
    data, packed = pack_bytes(file)
    (tensor,) = packed.tensors
    assert (tensor.coding, tensor.values) == ("codebook", 7)
    assert tensor.bytes_after == pytest.approx(28 + values.size * np.log2(7) / 8, rel=0.03)
    assert unpack_bytes(data, SOURCE) == file


def test_zeros_among_many_values_are_coded_apart_from_the_others(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((40, 16, 3, 3)).astype(np.float32)
    values[random.random(values.shape) < 0.7] = 0
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(values, "w")])
    file = helper.make_model(graph).SerializeToString()
    data, packed = pack_bytes(file)
    (tensor,) = packed.tensors
    assert tensor.coding == "zeros"
    entropy = -values.size * (0.7 * np.log2(0.7) + 0.3 * np.log2(0.3)) / 8
    assert tensor.bytes_after == pytest.approx(entropy, rel=0.05)
    assert packed.planes_bytes < 4 * np.count_nonzero(values)
    assert len(data) < 0.95 * len(lzma.compress(file, preset=9 | lzma.PRESET_EXTREME))
    assert unpack_bytes(data, SOURCE) == file


def test_tables_are_not_taught_by_what_xz_codes_better() -> None:
    """A pattern that repeats is xz's; what follows must be coded as if it had not been there."""
    repeats = np.tile(np.arange(-100, 100, dtype=np.int8), 40)
    noise = np.random.default_rng(0).laplace(0, 9, 3000).astype(np.int8)
    tensors = [numpy_helper.from_array(array, name) for name, array in {"repeats": repeats, "noise": noise}.items()]
    file = helper.make_model(helper.make_graph([], "g", [], [], initializer=tensors)).SerializeToString()
    alone = helper.make_model(helper.make_graph([], "g", [], [], initializer=tensors[1:])).SerializeToString()
    packed = pack_bytes(file)[1].tensors
    assert [tensor.coding for tensor in packed] == ["planes", "bytes"]
    assert packed[1].bytes_after == pack_bytes(alone)[1].tensors[0].bytes_after


def test_the_same_file_becomes_the_same_bytes(model: Path) -> None:
    assert pack_bytes(model.read_bytes()) == pack_bytes(model.read_bytes())


def test_another_file_is_replaced_only_where_asked(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "toy.elp")
    unpack(tmp_path / "toy.elp", model, replace=False)
    model.write_bytes(b"mine")
    with pytest.raises(EdgeLatheError, match="another file is there"):
        unpack(tmp_path / "toy.elp", model, replace=False)
    assert model.read_bytes() == b"mine"
    unpack(tmp_path / "toy.elp", model)
    assert model.read_bytes() != b"mine"


def test_other_bytes_than_were_packed_are_never_given_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = pack_bytes(model.read_bytes())
    container = read_container(data, SOURCE)
    lying = replace(container, header=replace(container.header, sha256="ab" * 32, coder="constriction 0.1"))
    forged = write_container(lying, compress(container.planes))
    with pytest.raises(EdgeLatheError, match=r"with constriction 0\.1 then and constriction [\d.]+ here"):
        unpack_bytes(forged, SOURCE)


@pytest.mark.parametrize(
    "change",
    [
        {"coding": "codebook", "values": 3},
        {"coding": "nibbles"},
        {"values": 5},
        {"type": TensorProto.STRING},
        {"type": 99},
        {"type": TensorProto.FLOAT, "coding": "codebook", "values": 256},
        {"coding": "zeros"},
        {"coding": "zeros", "type": TensorProto.FLOAT},
        {"coding": "planes"},
    ],
)
def test_tensors_that_are_described_wrongly_are_refused(model: Path, change: dict[str, object]) -> None:
    container = read_container(pack_bytes(model.read_bytes())[0], SOURCE)
    entries = list(container.header.tensors)
    place = next(number for number, entry in enumerate(entries) if entry.coding == "bytes")
    entries[place] = replace(entries[place], **change)  # type: ignore[arg-type]
    lying = replace(container, header=replace(container.header, tensors=tuple(entries)))
    with pytest.raises(EdgeLatheError, match="Cannot unpack model"):
        unpack_bytes(write_container(lying, compress(container.planes)), SOURCE)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 10**6))
def test_coded_bytes_of_a_stranger_end_in_one_sentence(noise: bytes, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.integers(-9, 9, (8, 8, 3, 3)).astype(np.int8)
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(weights, "w")])
    container = read_container(pack_bytes(helper.make_model(graph).SerializeToString())[0], SOURCE)
    (entry,) = container.header.tensors
    header = replace(container.header, tensors=(replace(entry, payload=len(noise)),))
    forged = write_container(replace(container, header=header, payloads=(noise,)), compress(b""))
    with pytest.raises(EdgeLatheError, match="Cannot unpack model"):
        unpack_bytes(forged, SOURCE)


def test_what_cannot_be_packed_is_refused(model: Path, tmp_path: Path, float_model: onnx.ModelProto) -> None:
    (tmp_path / "words.onnx").write_bytes(b"words")
    with pytest.raises(EdgeLatheError, match="truncated or no ONNX file"):
        pack(tmp_path / "words.onnx", tmp_path / "out.elp")
    onnx.save(float_model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=64)
    with pytest.raises(EdgeLatheError, match="its weights lie in other files"):
        pack(tmp_path / "apart.onnx", tmp_path / "out.elp")
    with pytest.raises(EdgeLatheError, match="no such file"):
        unpack(tmp_path / "none.elp", tmp_path / "out.onnx")
    with pytest.raises(EdgeLatheError, match="it is not a file that pack wrote"):
        unpack(model, tmp_path / "out.onnx")
    assert not {"out.elp", "out.onnx"} & {path.name for path in tmp_path.iterdir()}


def test_without_the_library_nothing_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(model, tmp_path / "toy.elp")
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(EdgeLatheError, match="pip install constriction"):
        pack(model, tmp_path / "out.elp")
    with pytest.raises(EdgeLatheError, match="pip install constriction"):
        unpack(tmp_path / "toy.elp", tmp_path / "out.onnx")
    assert not {"out.elp", "out.onnx"} & {path.name for path in tmp_path.iterdir()}


def test_small_tensors_stay_in_the_skeleton(model: Path) -> None:
    stored = {tensor.name for tensor in pack_bytes(model.read_bytes())[1].tensors}
    assert "c" not in stored  # 40 bytes
    assert module.SMALLEST == 64
