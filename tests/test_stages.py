from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from edgelathe.bench.records import StageRecord
from edgelathe.compress.batchnorm import reestimate_batch_norm
from edgelathe.compress.prune.macs import count_macs
from edgelathe.data import Dataset, load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.latencymeasure import Deployment
from edgelathe.networks import Network, load_source, restore, store
from edgelathe.recipe import ModelSection, load_recipe
from edgelathe.recipe_stages import STAGES as RECIPE_STAGES
from edgelathe.recipe_stages import (
    Distill,
    DropSqueezeExcite,
    FileStage,
    PruneChannels,
    PruneStep,
    ReplaceActivations,
    SelfDistill,
    Train,
)
from edgelathe.runfolder import SCRATCH
from edgelathe.stages import STAGES, pruning
from edgelathe.stages.context import Context
from edgelathe.stages.pruning import run_prune_channels
from edgelathe.stages.surgery import run_drop_squeeze_excite, run_replace_activations
from edgelathe.stages.training import run_distill, run_self_distill, run_train
from torch import nn


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", limit_train=64, limit_test=20)


@pytest.fixture(scope="module")
def network(data: Dataset) -> Network:
    return load_source(ModelSection(source="cifar_resnet8", arguments={"width": 4}), data, seed=0)


@pytest.fixture
def context(data: Dataset, network: Network, tmp_path: Path) -> Context:
    return Context(data, 0, network, network, tmp_path, progress=False)


def state(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.model.state_dict().items()}


def test_every_stage_but_those_of_files_changes_a_pytorch_network() -> None:
    assert STAGES.keys() == (set(RECIPE_STAGES.values()) - set(typing.get_args(FileStage))) | {PruneStep}


@pytest.mark.parametrize(
    ("stage", "done"),
    [
        (Train(do="train", epochs=1, batch=32, precision="float32", threads=1), "Trained for 1 epoch: "),
        (Distill(do="distill", epochs=2, batch=32, precision="float32", threads=1), "Distilled for 2 epochs: "),
    ],
)
def test_training_stages_work_on_a_copy_and_keep_their_state(
    stage: Train | Distill, done: str, network: Network, context: Context
) -> None:
    before = state(network)
    outcome = STAGES[type(stage)](stage, network, context)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.model.state_dict().items())
    assert not torch.equal(outcome.model.state_dict()["conv1.weight"], before["conv1.weight"])
    assert outcome.summary.startswith(done)
    assert outcome.summary.endswith(" of 20 test images right after the last one")
    facts = {key: value for key, value in outcome.facts.items() if key != "objective"}
    assert facts == {"precision": "float32", "compiled": False, "threads": 1, "processes": 1, "images_per_second": {}}
    assert outcome.facts["objective"]["loss"] == {"train": "cross-entropy", "distill": "kd"}[stage.do]
    assert [epoch["epoch"] for epoch in outcome.epochs] == list(range(1, stage.epochs + 1))
    assert (context.folder / SCRATCH / "checkpoint.safetensors").is_file()


def test_what_was_measured_to_choose_the_number_format_is_kept(network: Network, context: Context) -> None:
    facts = run_train(Train(do="train", epochs=1, batch=32, threads=1), network, context).facts
    assert facts["images_per_second"].keys() == {"float32", "bf16"}
    assert facts["precision"] in ("float32", "bf16")


def test_a_training_that_was_interrupted_ends_the_same(network: Network, context: Context, tmp_path: Path) -> None:
    stage = Train(do="train", epochs=2, batch=32, precision="float32", threads=1)
    whole = run_train(stage, network, context).model.state_dict()
    again = run_train(stage, network, context).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_distilling_learns_from_the_teacher_of_the_context(network: Network, context: Context) -> None:
    stage = Distill(do="distill", epochs=1, batch=32, precision="float32", threads=1, alpha=1.0)
    own = run_distill(stage, network, context).epochs[0]["loss"]
    assert own == pytest.approx(0.0, abs=0.3), "a network that learns from itself has little to learn"


@pytest.mark.parametrize(
    ("keys", "layers"),
    [
        ("", {"layer1": "layer1", "layer2": "layer2", "layer3": "layer3"}),
        ('layers = ["layer2"]\n', {"layer2": "layer2"}),
        ('layers = { "layer2.0" = "layer1.0" }\n', {"layer2.0": "layer1.0"}),
    ],
)
def test_a_recipe_with_a_loss_on_features_records_what_was_compared(
    keys: str, layers: dict[str, str], network: Network, context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[model]\nsource = "cifar_resnet8"\n[data]\nsource = "digits"\n[[stages]]\ndo = "train"\nepochs = 1\n'
        '[[stages]]\ndo = "prune-channels"\n[[stages]]\ndo = "distill"\nloss = "vid"\nepochs = 1\nbatch = 32\n'
        f'precision = "float32"\nthreads = 1\nevaluate = "every"\n{keys}'
    )
    _, prune, distill = load_recipe(path).stages
    pruned = replace(network, model=run_prune_channels(prune, network, context).model)
    outcome = run_distill(distill, pruned, context)
    assert outcome.facts["objective"]["layers"] == layers
    assert outcome.facts["objective"]["beta"] == 1.0
    assert outcome.epochs[0]["logged"].keys() >= {"teacher", "labels", "vid"}
    assert outcome.model.state_dict().keys() == pruned.model.state_dict().keys()


def test_pruning_writes_its_plan_and_says_what_is_left(network: Network, context: Context) -> None:
    stage = PruneChannels(do="prune-channels", keep_macs=0.6, criterion="l1")
    outcome = run_prune_channels(stage, network, context)
    plan = json.loads((context.folder / "plan.json").read_text())
    assert (plan["criterion"], plan["macs_after"]) == ("l1", outcome.facts["macs_after"])
    share = outcome.facts["macs_after"] / outcome.facts["macs_before"]
    assert 0.3 < share <= 0.6
    assert outcome.summary.startswith(f"Removed channels by l1: {share:.1%} of MACs and ")
    assert any(width["after"] < width["before"] for width in outcome.widths)
    assert all(width["reason"] for width in outcome.widths if width["after"] == width["before"])


def test_pruning_to_a_latency_keeps_what_was_measured(
    network: Network, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, typing.Any]] = []

    def latency_against(whole: nn.Module, example: torch.Tensor, folder: Path, **keys: typing.Any) -> typing.Any:
        assert folder.is_dir()
        asked.append(keys)
        return lambda model: 0.1 + 0.9 * count_macs(model, example)[0] / count_macs(whole, example)[0]

    monkeypatch.setattr(pruning, "latency_against", latency_against)
    where = Deployment("openvino", threads=2)
    stage = PruneChannels(do="prune-channels", keep_latency=0.6, criterion="l1", latency_of="int8")
    outcome = run_prune_channels(stage, network, replace(context, deployment=where))
    assert [(keys["deployment"], keys["latency_of"]) for keys in asked] == [(where, "int8")]
    trials = outcome.facts["latencies"]
    assert trials[0] == {"macs": outcome.facts["macs_before"], "latency": pytest.approx(1.0)}
    share = outcome.facts["macs_after"] / outcome.facts["macs_before"]
    assert 0.1 + 0.9 * share == pytest.approx(0.6, rel=0.05)
    assert "% of the int8 latency; widths that are no multiple of 8" in outcome.summary
    assert outcome.summary.endswith('which multiple = "auto" avoids')
    assert outcome.facts["multiples"] == []


def test_nothing_is_measured_unless_a_stage_asks_for_it(
    network: Network, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "latency_against", None)
    outcome = run_prune_channels(PruneChannels(do="prune-channels", keep_params=0.6), network, context)
    assert "latencies" not in outcome.facts
    assert outcome.facts["parameters_after"] <= 0.6 * outcome.facts["parameters_before"]


def test_batch_norms_take_their_statistics_anew_after_pruning(network: Network, context: Context) -> None:
    keys: dict[str, typing.Any] = {"do": "prune-channels", "keep_macs": 0.6, "criterion": "l1"}
    kept = run_prune_channels(PruneChannels(**keys, reestimate_norms=False), network, context)
    renewed = run_prune_channels(PruneChannels(**keys), network, context)
    assert kept.facts["batch_norms_reestimated"] == 0
    assert renewed.facts["batch_norms_reestimated"] == 7
    before, after = kept.model.state_dict(), renewed.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items() if "running" not in name
               and "tracked" not in name)  # fmt: skip
    assert not torch.allclose(before["bn1.running_mean"], after["bn1.running_mean"], rtol=0, atol=1e-3)
    kind = renewed.facts["reestimated_on_augmented"]
    reestimate_batch_norm(kept.model, context.data, network.preprocess, augmented=kind, seed=context.seed)
    assert torch.equal(kept.model.state_dict()["bn1.running_var"], after["bn1.running_var"])


@pytest.mark.parametrize("criterion", ["taylor", "obd", "hrank"])
def test_criteria_of_images_look_at_training_images(network: Network, context: Context, criterion: str) -> None:
    stage = PruneChannels(do="prune-channels", keep_macs=0.6, criterion=criterion, images=24)  # type: ignore[arg-type]
    plans = []
    for seed in (0, 1):
        run_prune_channels(stage, network, replace(context, seed=seed))
        plans.append(json.loads((context.folder / "plan.json").read_text())["groups"])
    assert plans[0] != plans[1], "other images, other channels"


def test_without_training_images_only_what_needs_none_is_done(network: Network, context: Context) -> None:
    alone = replace(context, data=replace(context.data, train=None))
    stage = PruneChannels(do="prune-channels", keep_macs=0.6)
    assert run_prune_channels(stage, network, alone).facts["batch_norms_reestimated"] == 0
    with pytest.raises(EdgeLatheError, match="Cannot rank channels by taylor: it looks at what training images do"):
        run_prune_channels(PruneChannels(do="prune-channels", criterion="taylor"), network, alone)


@pytest.fixture(scope="module")
def efficientnet(data: Dataset) -> Network:
    return load_source(ModelSection(source="cifar_efficientnet_b0", arguments={"width_mult": 0.25}), data, seed=0)


def test_surgery_writes_its_plan_and_says_what_was_replaced(efficientnet: Network, context: Context) -> None:
    before = state(efficientnet)
    stage = ReplaceActivations(do="replace-activations", to="hardswish", ignore=("features.0",))
    replaced = run_replace_activations(stage, efficientnet, context)
    plan = json.loads((context.folder / "plan.json").read_text())
    assert len(plan["edits"]) == replaced.facts["replaced"] == 48
    assert replaced.facts["left"] == [{"module": "features.0.2", "what": "silu", "reason": "it is named in ignore"}]
    assert replaced.summary == (
        "Replaced 48 activations by hardswish; 1 left alone (features.0.2 keeps silu: it is named in ignore)"
    )
    network = efficientnet.becomes(replaced.model, "replaced")
    dropped = run_drop_squeeze_excite(DropSqueezeExcite(do="drop-squeeze-excite"), network, context)
    plan = json.loads((context.folder / "plan.json").read_text())
    assert len(plan["edits"]) == len(plan["gates"]) == 16
    assert dropped.summary == "Dropped 16 squeeze-and-excitation blocks, the mean gate of 16 folded into weights"
    assert not any("Sigmoid" in type(module).__name__ for module in dropped.model.modules())
    for outcome in (replaced, dropped):
        record = {"do": "x", "folder": "x", "key": "x", "settings": {}}
        StageRecord.model_validate({**record, "summary": outcome.summary, "facts": outcome.facts})
    assert all(torch.equal(tensor, before[name]) for name, tensor in efficientnet.model.state_dict().items())


def test_surgery_can_be_stored_and_restored(efficientnet: Network, context: Context, tmp_path: Path) -> None:
    replaced = run_replace_activations(ReplaceActivations(do="replace-activations"), efficientnet, context).model
    network = efficientnet.becomes(replaced, "replaced")
    store(network, tmp_path / "stage")
    again = restore(efficientnet, tmp_path / "stage", "again").model
    example = network.example(context.data)
    with torch.no_grad():
        assert torch.equal(again(example), replaced(example))
    assert "SiLU" not in {type(module).__name__ for module in again.modules()}


@pytest.mark.parametrize("keep_exits", [False, True])
def test_distilling_from_itself_says_how_good_its_exits_are(
    network: Network, context: Context, keep_exits: bool
) -> None:
    stage = SelfDistill(do="self-distill", epochs=1, batch=32, precision="float32", threads=1, keep_exits=keep_exits)
    outcome = run_self_distill(stage, network, context)
    first, second, own = outcome.facts["exits"]
    assert [one["output"] for one in (first, second, own)] == ["layer1", "layer2", "logits"]
    assert all(one["low"] <= one["top1"] == one["correct"] / 20 <= one["high"] for one in (first, second, own))
    assert own["top1"] == outcome.epochs[-1]["test_accuracy"]
    kept = "kept" if keep_exits else "not kept"
    assert f"right after the last one; exits ({kept}): layer1 {first['top1']:.2%} (" in outcome.summary
    assert (outcome.exits is not None) is keep_exits
    assert outcome.model.state_dict().keys() == network.model.state_dict().keys()
