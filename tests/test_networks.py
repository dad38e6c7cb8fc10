from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edgelathe.compress.distill.exits import plan_exits
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.data import Dataset, Preprocess, Split
from edgelathe.errors import EdgeLatheError
from edgelathe.models.exits import Exits
from edgelathe.networks import Network, load_source, restore, store
from edgelathe.recipe import ModelSection
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def data() -> Dataset:
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    test = Split(x, np.arange(6) % 3)
    return Dataset("toy", None, test, ("a", "b", "c"), Preprocess((0.25,), (0.5,)))


NET = """
from torch import nn
from blocks import block

def build(num_classes, in_channels, width=4):
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    return nn.Sequential(block(in_channels, width), *head)
"""
BLOCKS = """
from torch import nn

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.ReLU())
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "mine.py").write_text(NET)
    (folder / "blocks.py").write_text(BLOCKS)
    return f"{folder}/mine.py:build"


def logits(network: Network, data: Dataset) -> torch.Tensor:
    with torch.inference_mode():
        return network.model(network.example(data, 3))


def test_a_network_takes_channels_and_classes_from_the_data(data: Dataset) -> None:
    network = load_source(ModelSection(source="cifar_resnet8"), data, seed=0)
    assert not network.model.training
    assert network.spec.arguments == {"num_classes": 3, "in_channels": 1}
    assert network.preprocess == data.preprocess
    example = network.example(data)
    assert (example.shape, example.dtype) == ((2, 1, 8, 8), torch.float32)
    assert logits(network, data).shape == (3, 3)


def test_weights_are_drawn_from_the_seed_and_from_nothing_else(data: Dataset) -> None:
    section = ModelSection(source="cifar_resnet8")
    torch.manual_seed(5)
    first, state = load_source(section, data, seed=1), torch.random.get_rng_state()
    torch.manual_seed(6)
    again, other = load_source(section, data, seed=1), load_source(section, data, seed=2)
    assert torch.equal(logits(first, data), logits(again, data))
    assert not torch.equal(logits(first, data), logits(other, data))
    assert first.origin == again.origin != other.origin
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator moved"


def test_the_origin_follows_arguments_and_weights(data: Dataset, tmp_path: Path) -> None:
    network = load_source(ModelSection(source="cifar_resnet8"), data, seed=0)
    origins = {network.origin}
    origins.add(load_source(ModelSection(source="cifar_resnet8", arguments={"width": 8}), data, seed=0).origin)
    weights = {name: tensor + 0.5 for name, tensor in network.model.state_dict().items() if tensor.is_floating_point()}
    full = network.model.state_dict() | weights
    save_file(full, tmp_path / "a.safetensors")
    loaded = load_source(ModelSection(source="cifar_resnet8", weights=tmp_path / "a.safetensors"), data, seed=0)
    assert torch.equal(loaded.model.state_dict()["conv1.weight"], full["conv1.weight"])
    origins.add(loaded.origin)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    elsewhere = load_source(ModelSection(source="cifar_resnet8", weights=tmp_path / "b.safetensors"), data, seed=9)
    assert elsewhere.origin == loaded.origin, "neither the weights' name nor an unused seed makes another network"
    save_file(network.model.state_dict(), tmp_path / "b.safetensors")
    changed = load_source(ModelSection(source="cifar_resnet8", weights=tmp_path / "b.safetensors"), data, seed=0)
    origins.add(changed.origin)
    assert len(origins) == 4


def test_the_origin_follows_a_users_file_and_what_it_imports(data: Dataset, source: str) -> None:
    section = ModelSection(source=source)
    folder = Path(source.rpartition(":")[0]).parent
    first = load_source(section, data, seed=0)
    assert load_source(section, data, seed=0).origin == first.origin
    (folder / "blocks.py").write_text(BLOCKS.replace("ReLU", "SiLU"))
    second = load_source(section, data, seed=0)
    assert second.origin != first.origin
    (folder / "mine.py").write_text(NET + "\n# edited\n")
    third = load_source(section, data, seed=0)
    assert third.origin not in (first.origin, second.origin)
    (folder / "unrelated.py").write_text("x = 1")
    assert load_source(section, data, seed=0).origin == third.origin


def test_the_origin_is_the_same_from_any_folder(
    data: Dataset, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_source(ModelSection(source=source), data, seed=0)
    monkeypatch.chdir(tmp_path)
    assert load_source(ModelSection(source="models/mine.py:build"), data, seed=0).origin == first.origin


def test_a_networks_own_normalisation_wins(data: Dataset) -> None:
    network = load_source(ModelSection(source="cifar_resnet8", mean=(0.5,), std=(0.1,)), data, seed=0)
    assert network.preprocess == Preprocess((0.5,), (0.1,))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"mean": (0.5, 0.5)}, "Cannot normalise by mean = [0.5, 0.5]: give 1 finite values"),
        ({"std": (0.0,)}, "Cannot normalise by std = [0]: give 1 finite values"),
        ({"source": "cifar_resnet9"}, 'Unknown network "cifar_resnet9": did you mean "cifar_resnet8"?'),
        ({"arguments": {"widht": 4}}, 'Unknown argument of cifar_resnet8 "widht": did you mean "width"?'),
        ({"weights": Path("none.pth")}, "Cannot read the weights none.pth: there is no such file; check the path."),
    ],
)
def test_what_cannot_be_loaded(data: Dataset, keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        load_source(ModelSection.model_validate({"source": "cifar_resnet8"} | keys), data, seed=0)
    assert str(caught.value).startswith(sentence)


@pytest.fixture(params=["zoo", "user"])
def any_source(request: pytest.FixtureRequest, source: str) -> str:
    return source if request.param == "user" else "cifar_resnet8"


def test_a_stored_network_comes_back_bit_for_bit(
    data: Dataset, any_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_source(ModelSection(source=any_source, mean=(0.4,)), data, seed=0)
    store(network, tmp_path / "stage")
    other = load_source(ModelSection(source=any_source, mean=(0.4,)), data, seed=1)
    found = restore(other, tmp_path / "stage", "its key")
    assert torch.equal(logits(found, data), logits(network, data))
    assert (found.origin, found.preprocess) == ("its key", network.preprocess)
    assert not found.model.training


def test_a_copy_leaves_the_network_alone(data: Dataset) -> None:
    network = load_source(ModelSection(source="cifar_resnet8"), data, seed=0)
    before = logits(network, data)
    copied = network.copy()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(logits(network, data), before)
    successor = network.becomes(copied, "next")
    assert (successor.origin, successor.spec) == ("next", network.spec)
    assert float(logits(successor, data).abs().sum()) == 0.0


def test_a_checkpoint_of_another_network_is_refused(data: Dataset, tmp_path: Path, source: str) -> None:
    other = load_source(ModelSection(source=source), data, seed=0)
    save_file(other.model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(EdgeLatheError) as caught:
        load_source(ModelSection(source="cifar_resnet8", weights=tmp_path / "w.safetensors"), data, seed=0)
    assert str(caught.value).startswith(f"Cannot load the weights {tmp_path / 'w.safetensors'} into this network: ")


# --- weights from a run's folder ----------------------------------------------------------------------------


def test_a_stage_s_folder_gives_its_network_narrowed_as_it_is(data: Dataset, tmp_path: Path) -> None:
    section = ModelSection(source="cifar_resnet8", arguments={"width": 8})
    network = load_source(section, data, seed=0)
    narrow, _ = prune_channels(network.model, network.example(data), criterion="l1", keep_macs=0.5)
    pruned = network.becomes(narrow.eval(), "pruned")
    store(pruned, tmp_path / "2-prune-channels")
    for folder in (tmp_path / "2-prune-channels", tmp_path / "2-prune-channels" / "network"):
        taken = load_source(section.model_copy(update={"weights": folder}), data, seed=5)
        assert torch.equal(logits(taken, data), logits(pruned, data))
    store(taken, tmp_path / "next")
    assert torch.equal(logits(restore(taken, tmp_path / "next", "x"), data), logits(pruned, data))


def test_origin_is_the_saved_network_and_not_its_place(data: Dataset, tmp_path: Path) -> None:
    section = ModelSection(source="cifar_resnet8")
    for place, seed in (("one", 0), ("two", 0), ("other", 1)):
        store(load_source(section, data, seed=seed), tmp_path / place)

    def origin(place: str) -> str:
        return load_source(section.model_copy(update={"weights": tmp_path / place}), data, seed=3).origin

    assert origin("one") == origin("two") != origin("other")


def test_code_runs_because_the_recipe_names_it(data: Dataset, source: str, tmp_path: Path) -> None:
    section = ModelSection(source=source)
    network = load_source(section, data, seed=0)
    store(network, tmp_path / "1-train")
    taken = load_source(section.model_copy(update={"weights": tmp_path / "1-train"}), data, seed=1)
    assert torch.equal(logits(taken, data), logits(network, data))


def test_another_network_s_folder_is_refused(data: Dataset, tmp_path: Path) -> None:
    store(load_source(ModelSection(source="cifar_resnet8", arguments={"width": 8}), data, seed=0), tmp_path)
    with pytest.raises(EdgeLatheError) as caught:
        load_source(ModelSection(source="cifar_resnet20", weights=tmp_path), data, seed=0)
    assert str(caught.value) == (
        f"Cannot take the weights of the network in {tmp_path / 'network'}: it was made from cifar_resnet8 with"
        " in_channels = 1, num_classes = 3, width = 8, and the recipe says cifar_resnet20 with in_channels = 1,"
        " num_classes = 3; name the same source and arguments."
    )
    with pytest.raises(EdgeLatheError, match="the recipe says cifar_resnet8 with in_channels = 1, num_classes = 3;"):
        load_source(ModelSection(source="cifar_resnet8", weights=tmp_path), data, seed=0)


def test_an_empty_folder_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the network .*structure\.json: there is no such file"):
        load_source(ModelSection(source="cifar_resnet8", weights=tmp_path), data, seed=0)


def test_exits_are_kept_beside_the_network_and_go_when_it_changes(data: Dataset, tmp_path: Path) -> None:
    network = load_source(ModelSection(source="cifar_resnet8", arguments={"width": 4}), data, seed=0)
    exits = Exits(plan_exits(network.model, network.example(data)).exits).eval()
    kept = network.becomes(network.model, "mine", exits=exits)
    store(kept, tmp_path)
    again = restore(network, tmp_path, "mine")
    assert again.outputs == ("logits", "exit_layer1", "exit_layer2")
    with torch.inference_mode():
        before, after = (each.deployed(network.example(data, 3)) for each in (kept, again))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    section = ModelSection(source="cifar_resnet8", arguments={"width": 4}, weights=tmp_path)
    loaded = load_source(section, data, seed=0)
    assert loaded.outputs == again.outputs
    changed = again.becomes(again.model, "changed")
    assert changed.outputs == ("logits",)
    assert changed.deployed is changed.model
    (tmp_path / "network" / "exits.safetensors").unlink()
    assert load_source(section, data, seed=0).origin != loaded.origin
