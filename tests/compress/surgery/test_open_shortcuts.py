from __future__ import annotations

from pathlib import Path

import pytest
import torch
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.importance import channel_importance
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.compress.surgery.open_shortcuts import open_shortcuts
from edgelathe.errors import EdgeLatheError
from edgelathe.models.resnet import ChannelSelection
from edgelathe.models.structure import NetworkSpec, load_network, save_network
from edgelathe.models.zoo import build
from torch import Tensor, nn

EXAMPLE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    network = build("cifar_resnet20", num_classes=10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def outputs(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(EXAMPLE)


def test_the_function_stays(model: nn.Module) -> None:
    opened, plan = open_shortcuts(model)
    assert [(edit.module, edit.becomes) for edit in plan.edits] == [
        ("layer2.0.shortcut", "selection"),
        ("layer3.0.shortcut", "selection"),
    ]
    assert torch.equal(outputs(opened), outputs(model))
    assert not isinstance(model.get_submodule("layer2.0.shortcut"), ChannelSelection)


def test_streams_can_be_cut_on_either_side(model: nn.Module) -> None:
    closed, open_ = (trace_groups(network, EXAMPLE, ()) for network in (model, open_shortcuts(model)[0]))
    assert "conv1" in {group.layer for group in closed if "option A shortcut" in group.reason}
    streams = {group.layer: group for group in open_ if group.layer in ("conv1", "layer2.0.conv2", "layer3.0.conv2")}
    assert [group.reason for group in streams.values()] == ["", "", ""]
    assert [group.before for group in streams.values()] == [16, 32, 64]


def test_selections_do_not_vote(model: nn.Module) -> None:
    opened, _ = open_shortcuts(model)
    groups = [group for group in trace_groups(opened, EXAMPLE, ()) if group.layer == "layer2.0.conv2"]
    before = channel_importance(opened, groups, "l1", samples=None, seed=0)["layer2.0.conv2"]
    with torch.no_grad():
        opened.get_submodule("layer2.0.shortcut").weight.mul_(100)
    assert torch.equal(channel_importance(opened, groups, "l1", samples=None, seed=0)["layer2.0.conv2"], before)


def test_far_fewer_macs_are_in_reach_and_the_pruned_network_comes_back(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="option A shortcut"):
        prune_channels(model, EXAMPLE, criterion="l1", keep_macs=0.03)
    pruned, plan = prune_channels(open_shortcuts(model)[0], EXAMPLE, criterion="l1", keep_macs=0.03)
    assert 0.02 < plan.macs_after / plan.macs_before <= 0.03
    selection = pruned.get_submodule("layer2.0.shortcut")
    assert isinstance(selection, ChannelSelection)
    assert selection.in_channels < 16 and selection.out_channels < 32 and not selection.weight.requires_grad
    spec = NetworkSpec("cifar_resnet20", {"num_classes": 10})
    save_network(pruned, spec, tmp_path)
    again = load_network(tmp_path).eval()
    assert torch.equal(outputs(again), outputs(pruned))
    assert not again.get_submodule("layer2.0.shortcut").weight.requires_grad


def test_training_leaves_the_selection_alone(model: nn.Module) -> None:
    opened, _ = open_shortcuts(model)
    before = opened.get_submodule("layer2.0.shortcut").weight.clone()
    optimizer = torch.optim.SGD(opened.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    opened.train()
    for _ in range(2):
        optimizer.zero_grad()
        opened(EXAMPLE).square().mean().backward()
        optimizer.step()
    assert torch.equal(opened.get_submodule("layer2.0.shortcut").weight, before)


def test_a_network_without_such_shortcuts_is_refused() -> None:
    with pytest.raises(EdgeLatheError, match="no option A shortcut"):
        open_shortcuts(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()))
