"""What a file says about itself survives the way through it, and says nothing about the machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from edgelathe import __version__
from edgelathe.errors import EdgeLatheError
from edgelathe.export.metadata import (
    ModelMetadata,
    describe_model,
    parse_properties,
    portable_recipe,
    read_metadata,
    read_properties,
    write_metadata,
)
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NUMBERS = st.floats(min_value=1e-6, max_value=300, allow_nan=False)
METADATA = st.integers(1, 4).flatmap(
    lambda channels: st.builds(
        ModelMetadata,
        mean=st.none() | st.tuples(*[NUMBERS] * channels),
        std=st.none() | st.tuples(*[NUMBERS] * channels),
        classes=st.none() | st.lists(TEXT, min_size=1, max_size=5).map(tuple),
        recipe=st.none() | TEXT,
        parent_sha256=st.none() | TEXT,
        data_fingerprint=st.none() | TEXT,
        tool_version=st.none() | TEXT,
    )
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@settings(max_examples=50, deadline=None)
@given(METADATA)
def test_properties_round_trip(metadata: ModelMetadata) -> None:
    assert parse_properties(metadata.properties()) == metadata


def test_file_round_trip(model: Path) -> None:
    properties = describe_model(
        mean=[0.485, 0.456],
        std=[0.229, 0.224],
        classes=["katze", "köter"],
        recipe={"name": "demo", "data": {"root": "/home/someone/data/cifar10"}},
        parent_sha256="ab" * 32,
        data_fingerprint="cd" * 32,
    )
    graph = onnx.load(model).graph
    write_metadata(model, properties)
    assert read_metadata(model) == ModelMetadata(
        mean=(0.485, 0.456),
        std=(0.229, 0.224),
        classes=("katze", "köter"),
        recipe='{"data":{"root":"cifar10"},"name":"demo"}',
        parent_sha256="ab" * 32,
        data_fingerprint="cd" * 32,
        tool_version=__version__,
    )
    assert onnx.load(model).graph == graph
    assert b"someone" not in model.read_bytes()


def test_writing_keeps_other_keys_and_the_original(model: Path, tmp_path: Path) -> None:
    write_metadata(model, {"author": "them", "edgelathe.tool_version": "0"})
    before = model.read_bytes()
    write_metadata(model, {"edgelathe.tool_version": "1"}, tmp_path / "copy.onnx")
    assert model.read_bytes() == before
    assert read_properties(tmp_path / "copy.onnx") == {"author": "them", "edgelathe.tool_version": "1"}


def test_writing_is_deterministic(model: Path, tmp_path: Path) -> None:
    write_metadata(model, {"b": "2", "a": "1"}, tmp_path / "1.onnx")
    write_metadata(model, {"a": "1", "b": "2"}, tmp_path / "2.onnx")
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


def test_a_file_from_elsewhere_says_nothing(model: Path) -> None:
    assert read_metadata(model) == ModelMetadata()


@pytest.mark.parametrize(
    "value, kept",
    [
        ("/home/someone/data/cifar10", "cifar10"),
        ("~/data/cifar10", "cifar10"),
        ("../data/cifar10", "cifar10"),
        ("C:\\Users\\someone\\nets.py", "nets.py"),
        ("\\\\server\\share\\nets.py", "nets.py"),
        ("/home/someone/nets/mine.py:build", "mine.py:build"),
        ("nets/mine.py:build", "nets/mine.py:build"),
        ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2"),
        ("<= 0.40 x", "<= 0.40 x"),
        (Path("/home/someone/x.th"), "x.th"),
        (3, 3),
        ([{"path": "/a/b"}, None, True, 0.5], [{"path": "b"}, None, True, 0.5]),
    ],
)
def test_recipes_lose_their_folders(value: object, kept: object) -> None:
    assert json.loads(portable_recipe({"key": value})) == {"key": kept}


@pytest.mark.parametrize(
    "key, text, why",
    [
        ("mean", "0.5, 0.5", "it is no JSON"),
        ("mean", "3", "it is no list with entries"),
        ("mean", "[]", "it is no list with entries"),
        ("mean", '["a"]', "it is no list of numbers"),
        ("mean", "[NaN]", "it is no list of numbers"),
        ("mean", "[true]", "it is no list of numbers"),
        ("std", "[1e999]", "it is no list of numbers"),
        ("std", "[0.0]", "its numbers must be greater than 0"),
        ("classes", "[1]", "it is no list of names"),
        ("classes", "[" * 100_000, "it is no JSON"),
    ],
)
def test_bad_notes_are_refused(key: str, text: str, why: str) -> None:
    message = f'Cannot use the metadata "edgelathe.{key}": {why}; correct it or export the model again.'
    with pytest.raises(EdgeLatheError, match=f"^{re.escape(message)}$"):
        parse_properties({f"edgelathe.{key}": text})


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(EdgeLatheError, match="it has 1 numbers and mean has 2"):
        parse_properties({"edgelathe.mean": "[0, 0]", "edgelathe.std": "[1]"})


def test_the_page_names_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
    everything = describe_model(mean=[0], std=[1], classes=["a"], recipe={}, parent_sha256="0", data_fingerprint="0")
    assert set(re.findall(r"`(edgelathe\.[a-z0-9_]+)`", page)) == set(everything)


def test_truncated_file(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-5])
    before = model.read_bytes()
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the model .*truncated"):
        write_metadata(model, {"a": "1"})
    assert model.read_bytes() == before


@pytest.mark.parametrize("module", ["metadata", "parity", "vectors"])
def test_no_torch(module: str) -> None:
    code = f"import sys, edgelathe.export.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
