from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from edgelathe.bench.graph import inspect_graph
from edgelathe.compress.distill.exits import plan_exits
from edgelathe.data import Dataset, Preprocess, load_data
from edgelathe.deploy import export_networks, file_name, inputs_line, quantize_file
from edgelathe.errors import EdgeLatheError
from edgelathe.export import parity
from edgelathe.export.metadata import read_metadata, write_metadata
from edgelathe.export.parity import torch_reference
from edgelathe.export.vectors import read_vectors
from edgelathe.models.exits import Exits
from edgelathe.networks import Network, load_source
from edgelathe.onnxinputs import onnx_preprocess
from edgelathe.recipe import ExportSection, ModelSection
from edgelathe.recipe_stages import Quantize
from torch import nn


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", limit_train=64, limit_test=20)


@pytest.fixture(scope="module")
def network(data: Dataset) -> Network:
    return load_source(ModelSection(source="cifar_resnet8", arguments={"width": 4}), data, seed=0)


@pytest.fixture(scope="module")
def exported(data: Dataset, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    record = export_networks({"float dense": network}, ExportSection(), data, {"seed": 3}, folder)
    assert record["settings"] == {"opset": 18, "dynamic_batch": True, "tolerance": 1e-4}
    assert record["facts"]["float dense"]["batches"] == [1, 2, 7]
    assert record["summary"].startswith("ONNX equals PyTorch within ")
    return folder


def test_names_of_candidates_are_names_of_files() -> None:
    assert file_name("int8 pruned qat") == "int8-pruned-qat.onnx"


def test_the_export_carries_how_it_is_fed_and_where_it_comes_from(
    data: Dataset, network: Network, exported: Path
) -> None:
    known = read_metadata(exported / "float-dense.onnx")
    assert (known.mean, known.std) == (data.preprocess.mean, data.preprocess.std)
    assert (known.classes, known.data_fingerprint) == (data.classes, data.fingerprint)
    assert json.loads(known.recipe or "") == {"seed": 3}


def test_test_vectors_lie_beside_the_model(data: Dataset, network: Network, exported: Path) -> None:
    inputs, outputs = read_vectors(exported / "float-dense.vectors.npz")
    assert np.array_equal(inputs, network.preprocess(data.test.x[:4]))
    with torch.inference_mode():
        assert np.allclose(outputs, network.model(torch.from_numpy(inputs)).numpy(), atol=1e-5)


def test_a_fixed_batch_is_one_image(data: Dataset, network: Network, tmp_path: Path) -> None:
    record = export_networks({"net": network}, ExportSection(dynamic_batch=False), data, {}, tmp_path)
    assert record["facts"]["net"]["batches"] == [1]
    assert inspect_graph(tmp_path / "net.onnx").inputs["input"] == (1, 1, 8, 8)


def test_an_export_that_computes_something_else_is_refused(data: Dataset, network: Network, tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        export_networks({"net": network}, ExportSection(tolerance=1e-12), data, {}, tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith("The exported file net.onnx does not compute what the PyTorch network computes (")
    assert sentence.endswith("; raise export.tolerance only if you know why, else report the network's operators.")


def test_quantizing_leaves_the_plan_beside_the_file(data: Dataset, exported: Path, tmp_path: Path) -> None:
    source = exported / "float-dense.onnx"
    stage = Quantize(do="quantize", keep_float=("linear",))
    images = data.calibration(32, seed=0)
    record = quantize_file(source, tmp_path / "int8.onnx", stage, images, data.preprocess)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["method"] == "mse"
    assert record["facts"]["images"] == 32
    floats = {node["name"]: node["reason"] for node in record["nodes"] if node["outcome"] == "float"}
    assert "linear" in floats
    assert all(floats.values())
    assert {node["reason"] for node in record["nodes"] if node["outcome"] == "int8"} == {""}
    assert inspect_graph(tmp_path / "int8.onnx").int8_macs > 0


def test_normalisation_is_the_callers_then_the_files_then_the_datas(
    data: Dataset, exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    source = exported / "float-dense.onnx"
    write_metadata(source, {"edgelathe.mean": "[0.125]", "edgelathe.std": "[0.75]"}, path)
    assert onnx_preprocess(path, data, (0.5,), None) == Preprocess((0.5,), (0.75,))
    assert onnx_preprocess(path, data) == Preprocess((0.125,), (0.75,))
    silent = dataclasses.replace(data, preprocess=Preprocess((0.25,), (0.25,)))
    assert onnx_preprocess(source, silent) == data.preprocess
    with pytest.raises(EdgeLatheError, match=r"^Cannot normalise by mean = \[0.1, 0.2\]: give 1 finite values"):
        onnx_preprocess(path, data, (0.1, 0.2))
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the model none.onnx: there is no such file"):
        onnx_preprocess(Path("none.onnx"), data)


def test_a_normalisation_that_nobody_gave_is_called_assumed(tmp_path: Path) -> None:
    preprocess = Preprocess((0.5,), (0.25,))
    line = "inputs: (pixel / 255 - mean) / std with mean 0.5 and std 0.25"
    assumed = f"{line}; assumed: set model.mean and model.std to what the weights were trained with"
    weights = tmp_path / "mine.pth"
    assert inputs_line(ModelSection(source="cifar_resnet8"), preprocess) == line
    assert inputs_line(ModelSection(source="cifar_resnet8", weights=weights), preprocess) == assumed
    assert (
        inputs_line(ModelSection(source="cifar_resnet8", weights=weights, mean=(0.5,), std=(0.25,)), preprocess) == line
    )


def test_an_exit_that_computes_something_else_is_named(
    data: Dataset, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits = Exits(plan_exits(network.model, network.example(data)).exits).eval()
    kept = dataclasses.replace(network, exits=exits)

    def reference(model: nn.Module, *, output: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        return torch_reference(model, output=min(output, 1))

    monkeypatch.setattr(parity, "torch_reference", reference)
    with pytest.raises(EdgeLatheError, match=r"^The exported file net.onnx, output exit_layer2 does not compute"):
        export_networks({"net": kept}, ExportSection(), data, {}, tmp_path)
