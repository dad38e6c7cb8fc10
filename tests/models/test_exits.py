from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgelathe.errors import EdgeLatheError
from edgelathe.models.exitnames import exit_names
from edgelathe.models.exits import Exit, Exits, NetworkWithExits, hearing, load_exits, save_exits
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

SPECS = (Exit("1", 4, 8, 6, (2, 2), 3), Exit("2", 6, 8, 6, (1, 1), 3))


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def exits() -> Exits:
    torch.manual_seed(0)
    made = Exits(SPECS)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


def test_all_answers_come_from_one_pass(network: nn.Module, exits: Exits) -> None:
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own, first, second = NetworkWithExits(network, exits)(x)
        assert torch.equal(own, network(x))
        feature_map = network[1](network[0](x))  # type: ignore[index]
        assert torch.equal(first, exits.classifiers[0](feature_map))
        assert torch.equal(second, exits.classifiers[1](network[2](feature_map)))  # type: ignore[index]
    assert not any(module._forward_hooks for module in network.modules())


def test_no_hook_is_left_behind_by_an_error(network: nn.Module) -> None:
    with pytest.raises(AttributeError), hearing(network, ["1", "nothing"]):
        pass
    with pytest.raises(ZeroDivisionError), hearing(network, ["1"]):
        _ = 1 / 0
    assert not any(module._forward_hooks for module in network.modules())


def test_outputs_are_named_after_layers() -> None:
    assert exit_names(["layer1", "features.3", "features_3"]) == ("exit_layer1", "exit_features_3", "exit_features_3_2")
    assert NetworkWithExits(nn.Identity(), Exits(SPECS)).names == ("logits", "exit_1", "exit_2")


def test_a_file_of_exits_gives_the_same_exits(network: nn.Module, exits: Exits, tmp_path: Path) -> None:
    path = tmp_path / "exits.safetensors"
    save_exits(exits.to(memory_format=torch.channels_last), path)
    again = load_exits(path, network)
    assert again.specs == SPECS
    assert not again.training
    state = again.state_dict()
    assert state.keys() == exits.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in exits.state_dict().items())
    save_exits(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def rewritten(path: Path, change: Callable[[list[dict]], object]) -> None:
    """The header changed, the tensors as they are."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["edgelathe"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    save_file(tensors, path, metadata={"edgelathe": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header[0].update(layer="9"), "the network has no 9"),
        (lambda header: header[0].update(middle=9), "its tensors are not those that its header describes"),
        # Sizes that no memory holds are refused by the tensors, not by the allocator.
        (lambda header: header[0].update(middle=10**6), "its tensors are not those that its header describes"),
        (lambda header: header[0].update(middle=-1), "its header describes no classifiers"),
        (lambda header: header[0].update(middle="8"), "it is not whole"),
        (lambda header: header[0].update(run="rm"), "it is not whole"),
        (lambda header: header.pop(), "its tensors are not those that its header describes"),
    ],
)
def test_a_tampered_header_is_refused(
    network: nn.Module, exits: Exits, tmp_path: Path, change: Callable[[list[dict]], object], message: str
) -> None:
    path = tmp_path / "exits.safetensors"
    save_exits(exits, path)
    rewritten(path, change)
    with pytest.raises(EdgeLatheError, match=f"Cannot use the exits .*: {message}; "):
        load_exits(path, network)


def test_a_damaged_file_is_refused(network: nn.Module, exits: Exits, tmp_path: Path) -> None:
    path = tmp_path / "exits.safetensors"
    save_exits(exits, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EdgeLatheError, match="it is not whole"):
        load_exits(path, network)
