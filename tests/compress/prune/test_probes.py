from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.prune import probes
from edgelathe.compress.prune.macs import layer_costs
from edgelathe.compress.prune.probes import READINGS, Probe, measure_multiples
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.models import zoo
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def _multiples(model: nn.Module, example: Tensor, measure: Callable[[nn.Module], float]) -> dict[str, tuple[int, str]]:
    groups = [group for group in trace_groups(model, example, ()) if not group.reason]
    found = measure_multiples(model, example, groups, layer_costs(model, example), measure, seed=0)
    assert [one.layer for one in found] == [group.layer for group in groups]
    return {one.layer: (one.multiple, one.reason) for one in found}


def _blocked(block: int) -> Callable[[nn.Module], float]:
    """A runtime that computes outputs of convolutions in blocks."""

    def measure(model: nn.Module) -> float:
        assert isinstance(model, Probe)
        maker = model.chain[0]
        assert isinstance(maker, nn.Conv2d)
        return 1.0 + math.ceil(maker.out_channels / block)

    return measure


def test_the_multiple_of_each_family_is_measured() -> None:
    model = zoo.build("cifar_resnet20", num_classes=10).eval()
    example = torch.zeros(1, 3, 32, 32)
    seen: list[tuple[int, ...]] = []

    def measure(network: nn.Module) -> float:
        with torch.no_grad():
            assert network(torch.zeros(2, 3, 32, 32)).ndim == 2
        maker = network.chain[0]  # type: ignore[index, union-attr]
        reader = network.chain[2]  # type: ignore[index, union-attr]
        seen.append((maker.in_channels, maker.out_channels, reader.in_channels, reader.out_channels, maker.stride[0]))
        return _blocked(8)(network)

    found = _multiples(model, example, measure)
    assert {multiple for multiple, _ in found.values()} == {8}
    assert found["layer1.0.conv1"] == (8, "8 channels take 67% and 12 channels take 100% of the time of 16")
    assert len(found) == 9
    # 16 -> w -> 16, 32 -> w -> 32 and 64 -> w -> 64; 16 -> w -> 32 and 32 -> w -> 64 with stride 2
    assert len(set(seen)) == 5 + 6 + 7 + 6 + 7
    assert all(seen.count(one) == READINGS for one in seen)
    assert {one[0] for one in seen if one[4] == 2} == {16, 32}


def test_depthwise_layers_and_strides_are_in_the_probe(make: Make, example: Tensor) -> None:
    shapes = set()

    def measure(network: nn.Module) -> float:
        assert isinstance(network, Probe)
        with torch.no_grad():
            maps = network.adapter(example)
        layers = [layer for layer in network.chain if isinstance(layer, nn.Conv2d)]
        shapes.add((maps.shape[1], maps.shape[-1], tuple(layer.groups > 1 for layer in layers)))
        return _blocked(4)(network)

    found = _multiples(make("Inverted"), example, measure)
    assert found["expand"][0] == 4
    assert (6, 8, (False, True, False)) in shapes, "6 channels of 8 x 8 pixels: expand, depthwise, project"
    assert (12, 1, (False, False)) in shapes, "squeeze, excite"


def test_groups_beyond_the_costliest_take_the_multiple_of_similar_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FAMILIES", 1)
    model = zoo.build("cifar_resnet20", num_classes=10).eval()
    found = _multiples(model, torch.zeros(1, 3, 32, 32), _blocked(16))
    assert found["layer1.0.conv1"] == (16, "8 channels take 100% of the time of 16")
    assert found["layer1.2.conv1"] == found["layer1.0.conv1"]
    assert found["layer2.1.conv1"] == (16, "as layer1.0.conv1: 8 channels take 100% of the time of 16")


def test_linear_layers_and_groups_that_cannot_be_measured(make: Make, example: Tensor) -> None:
    def measure(network: nn.Module) -> float:
        with torch.no_grad():
            assert network(example).shape[0] == len(example)
        maker = network.chain[0]  # type: ignore[index, union-attr]
        if isinstance(maker, nn.Linear):
            return 2.0 + math.ceil(maker.out_features / 2)
        return 1.0 + maker.out_channels  # type: ignore[union-attr, operator]

    found = _multiples(make("Chain"), example, measure)
    assert found == {
        "conv1": (1, "7 channels take 89% of the time of 8"),
        "conv2": (1, "3 channels take 80% of the time of 4"),
        "fc1": (2, "6 channels take 83% and 7 channels take 100% of the time of 8"),
    }
