"""From a sparse network to the int8 file: zeros that were made at the start are there at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import edgelathe
import numpy as np
import onnx
import pytest
import torch
from edgelathe.bench.encoded import stored_size
from edgelathe.data import Dataset, load_data
from edgelathe.deploy import export_networks, quantize_file, sparsity_promises, train_and_quantize_file
from edgelathe.errors import EdgeLatheError
from edgelathe.networks import Network, load_source, restore, store
from edgelathe.recipe import ExportSection, ModelSection
from edgelathe.recipe_stages import Distill, PruneChannels, Qat, Quantize, Section, Sparsify, SparsifyGradually
from edgelathe.stages import STAGES
from edgelathe.stages.context import Context
from onnx import numpy_helper

Step = Callable[[Network, Section], Network]
TRAINING = {"epochs": 1, "batch": 64, "precision": "float32", "threads": 1}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", limit_train=256, limit_test=60)


@pytest.fixture(scope="module")
def dense(data: Dataset) -> Network:
    return load_source(ModelSection(source="cifar_resnet8"), data, seed=0)


@pytest.fixture
def step(data: Dataset, dense: Network, tmp_path: Path) -> Step:
    """Carries out one stage as a run does: works in a folder, stores the network there and reads it back."""

    def carry_out(network: Network, stage: Section) -> Network:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        outcome = STAGES[type(stage)](stage, network, Context(data, 0, dense, network, folder, progress=False))
        store(network.becomes(outcome.model, folder.name, outcome.masks), folder)
        return restore(network, folder, folder.name)

    return carry_out


def zeros(network: Network) -> dict[str, torch.Tensor]:
    return {name: network.model.get_parameter(name).detach() == 0 for name in network.masks}


def int8_zeros(path: Path) -> dict[str, np.ndarray]:
    """Which codes of weights are zero, by the layer that reads them."""
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        tensor_name.removesuffix("_weight_codes").removesuffix("_trained_weight"): numpy_helper.to_array(tensor) == 0
        for tensor_name, tensor in stored.items()
        if tensor_name.endswith("_weight_codes")
    }


@pytest.mark.slow
def test_two_of_four_survive_distillation_export_and_int8(
    step: Step, dense: Network, data: Dataset, tmp_path: Path
) -> None:
    sparse = step(dense, Sparsify(do="sparsify", pattern="2:4"))
    tuned = step(sparse, Distill(do="distill", **TRAINING))
    name = "layer2.0.conv2.weight"
    weight = tuned.model.get_parameter(name).detach()
    assert weight.shape == (32, 32, 3, 3)
    assert bool((weight.unflatten(1, (-1, 4)).count_nonzero(dim=2) == 2).all())
    assert not torch.equal(weight, sparse.model.get_parameter(name)), "distillation has trained"
    assert all(torch.equal(tuned.masks[each], ~gone) for each, gone in zeros(tuned).items())

    files = tmp_path / "files"
    record = export_networks({"float sparse": tuned}, ExportSection(), data, {}, files)
    sizes = record["facts"]["float sparse"]["sparse"]
    assert sizes["zeros"] == sum(int(gone.sum()) for gone in zeros(tuned).values())
    assert sizes["bitmap_bytes"] < 0.6 * sizes["file_bytes"]
    assert sizes["zip_bytes"] < 0.7 * sizes["file_bytes"]
    assert sizes["sparse_initializers"] == [], "half of the weights are too many for values and places"

    source, output = files / "float-sparse.onnx", files / "int8.onnx"
    record = quantize_file(source, output, Quantize(do="quantize"), data.calibration(32, 0), tuned.preprocess)
    codes = int8_zeros(output)["layer2.0.conv2"]
    assert codes.shape == (32, 32, 3, 3)
    assert bool(codes[zeros(tuned)[name].numpy()].all()), "every pruned weight has the code 0"
    assert codes.mean() < 0.6, "and it is not that all had it"
    kept = record["facts"]["zero_weights"]
    assert kept["int8"] >= kept["float"] > 0.45
    assert kept["int8"] == 1 - stored_size(output).nonzero / stored_size(output).parameters


@pytest.mark.slow
def test_they_survive_quantization_aware_training(step: Step, dense: Network, data: Dataset, tmp_path: Path) -> None:
    sparse = step(dense, SparsifyGradually(do="sparsify-gradually", keep=0.2, scope="layer", **TRAINING))
    files = tmp_path / "files"
    record = export_networks({"float": sparse}, ExportSection(), data, {}, files)
    sizes = record["facts"]["float"]["sparse"]
    assert (
        sizes["sparse_initializers_bytes"] == (files / "float.sparse.onnx").stat().st_size < 0.8 * sizes["file_bytes"]
    )
    stage = Qat(do="qat", epochs=1, batch=64, threads=1)
    record = train_and_quantize_file(
        files / "float.onnx", files / "int8.onnx", stage, data, sparse.preprocess, calibration=32, seed=0, teacher=None,
        state=tmp_path / "state", progress=False,
    )  # fmt: skip
    assert record["facts"]["zero_weights"]["int8"] >= record["facts"]["zero_weights"]["float"] > 0.75
    codes, gone = int8_zeros(files / "int8.onnx"), zeros(sparse)["layer2.0.conv2.weight"].numpy()
    assert bool(codes["layer2.0.conv2"][gone].all())


def test_they_follow_a_network_that_loses_channels(step: Step, dense: Network) -> None:
    sparse = step(dense, Sparsify(do="sparsify", keep=0.4))
    narrow = step(sparse, PruneChannels(do="prune-channels", criterion="l1", keep_macs=0.6))
    assert any(narrow.masks[name].shape != mask.shape for name, mask in sparse.masks.items())
    tuned = step(narrow, Distill(do="distill", **TRAINING))
    before, after = zeros(narrow), zeros(tuned)
    assert before.keys() == after.keys() == sparse.masks.keys()
    assert all(torch.equal(after[name], gone) for name, gone in before.items())


def test_a_second_sparsification_adds_to_the_first(step: Step, dense: Network) -> None:
    first = step(dense, Sparsify(do="sparsify", pattern="2:4", only=("layer1",)))
    both = step(first, SparsifyGradually(do="sparsify-gradually", only=("layer2",), **TRAINING))
    assert {name.split(".")[0] for name in first.masks} == {"layer1"}
    assert {name.split(".")[0] for name in both.masks} == {"layer1", "layer2"}
    assert all(torch.equal(both.masks[name], mask) for name, mask in first.masks.items())


def test_a_network_that_lost_its_zeros_is_neither_restored_nor_exported(
    step: Step, dense: Network, data: Dataset, tmp_path: Path
) -> None:
    sparse = step(dense, Sparsify(do="sparsify"))
    alive = sparse.becomes(dense.model, "alive")
    with pytest.raises(EdgeLatheError, match="that were pruned are no longer zero at export"):
        export_networks({"float": alive}, ExportSection(), data, {}, tmp_path / "files")
    store(alive, tmp_path / "alive")
    with pytest.raises(EdgeLatheError, match="that were pruned are no longer zero in "):
        restore(dense, tmp_path / "alive", "alive")


def test_what_runtimes_make_of_it_is_said_for_sparsifying_stages_only() -> None:
    said = sparsity_promises(Sparsify(do="sparsify", pattern="2:4"), ("onnxruntime", "litert"))
    assert [line.split(" ")[0] for line in said] == ["onnxruntime", "litert"]
    assert sparsity_promises(Distill(do="distill", **TRAINING), ("onnxruntime",)) == []


def test_a_dry_run_tells_the_pattern_and_refuses_what_a_run_would(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    head = '[model]\nsource = "cifar_resnet8"\n[data]\nlimit_train = 64\nlimit_test = 20\n'
    stages = (
        '[[stages]]\ndo = "sparsify"\npattern = "2:4"\n[[stages]]\ndo = "sparsify-gradually"\nkeep = 0.2\nepochs = 2\n'
    )
    recipe.write_text(head + stages)
    steps = [step.what for step in edgelathe.plan(recipe).steps]
    assert steps[1] == "sparsify in the pattern 2:4"
    assert steps[2] == "sparsify-gradually in the pattern unstructured, 20% stay, 2 epochs"
    recipe.write_text(head + stages.replace("2:4", "3:7"))
    with pytest.raises(EdgeLatheError, match="Cannot sparsify this network in the pattern 3:7"):
        edgelathe.plan(recipe)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('pattern = "24"', 'Unknown pattern "24": write '),
        ('pattern = "2:4"\nkeep = 0.3', "Cannot use keep = 0.3: it must be left out, as 2:4 says how much it keeps."),
    ],
)
def test_a_recipe_with_an_impossible_pattern_is_refused_when_it_is_read(tmp_path: Path, line: str, why: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'[model]\nsource = "cifar_resnet8"\n[[stages]]\ndo = "sparsify"\n{line}\n')
    with pytest.raises(EdgeLatheError, match=f"cannot run: {re.escape(why)}"):
        edgelathe.load_recipe(recipe)
