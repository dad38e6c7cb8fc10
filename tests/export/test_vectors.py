"""Test vectors: what was written is read, what is broken is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.export.vectors import check_vectors, read_vectors, write_vectors

INPUTS = np.random.default_rng(0).standard_normal((4, 1, 2, 3)).astype(np.float32)


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.npz", INPUTS, 2 * INPUTS)
    write_vectors(tmp_path / "b", INPUTS[:, :, ::-1][:, :, ::-1], 2 * INPUTS)
    inputs, outputs = read_vectors(tmp_path / "a.npz")
    np.testing.assert_array_equal(inputs, INPUTS)
    np.testing.assert_array_equal(outputs, 2 * INPUTS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("factor, passed", [(2.0, True), (2.1, False)])
def test_check_against_a_model(factor: float, passed: bool, tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,2,3] x) => (float[N,1,2,3] y) { y = Add(x, x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    write_vectors(tmp_path / "v.npz", INPUTS, np.float32(factor) * INPUTS)
    parity = check_vectors(tmp_path / "v.npz", tmp_path / "m.onnx", tolerance=1e-6)
    assert parity.passed is passed
    assert [result.batch for result in parity.batches] == [1, 4]


@pytest.mark.parametrize(
    "inputs, outputs, why",
    [
        (INPUTS.astype(np.float64), INPUTS, "its inputs are float64, not float32"),
        (INPUTS, INPUTS.astype(np.float16), "its outputs are float16, not float32"),
        (INPUTS, INPUTS[:3], "it has 4 inputs and 3 outputs"),
        (INPUTS[:0], INPUTS[:0], "it has 0 inputs and 0 outputs"),
        (INPUTS, INPUTS * np.float32(np.inf), "its outputs are no batch of finite numbers"),
        (INPUTS, INPUTS[:, 0, 0, 0], "its outputs are no batch of finite numbers"),
    ],
)
def test_unfit_arrays(inputs: np.ndarray, outputs: np.ndarray, why: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    with pytest.raises(EdgeLatheError, match=f"^{re.escape(f'Cannot use the test vectors {path}: {why};')}"):
        write_vectors(path, inputs, outputs)
    assert not list(tmp_path.iterdir())


def broken(path: Path, kind: str) -> None:
    if kind == "pickle":
        np.savez(path, inputs=np.array([{"a": 1}], dtype=object), outputs=INPUTS)
    elif kind == "another array":
        np.savez(path, inputs=INPUTS)
    elif kind == "truncated":
        write_vectors(path, INPUTS, INPUTS)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "damaged":
        write_vectors(path, INPUTS, INPUTS)
        content = bytearray(path.read_bytes())
        content[200] ^= 255
        path.write_bytes(content)
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, INPUTS)
    else:
        path.write_bytes(b"" if kind == "empty" else b"PK nothing")


@pytest.mark.parametrize("kind", ["pickle", "another array", "truncated", "damaged", "npy", "empty", "text"])
def test_unreadable_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    broken(path, kind)
    message = f'Cannot use the test vectors {path}: it is no .npz with arrays "inputs" and "outputs"; '
    with pytest.raises(EdgeLatheError, match=f"^{re.escape(message)}"):
        read_vectors(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        read_vectors(tmp_path / "v.npz")


def test_other_outputs_are_kept_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_vectors(path, INPUTS, 2 * INPUTS, {"exit_a": 3 * INPUTS})
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive) == ["exit_a", "inputs", "outputs"]
        np.testing.assert_array_equal(archive["exit_a"], 3 * INPUTS)
    np.testing.assert_array_equal(read_vectors(path)[1], 2 * INPUTS)
