from __future__ import annotations

import torch
from edgelathe.compress.distill.layers import Layer, layers_of, stage_ends
from edgelathe.models.zoo import build
from torch import Tensor, nn

from .test_features import INPUTS, Net


def test_shapes_are_those_of_maps_and_vectors_in_the_order_in_which_layers_end() -> None:
    network = Net().train()
    layers = layers_of(network, INPUTS)
    assert {name: layer.shape for name, layer in layers.items()} == {
        "stem.0": (4, 8, 8), "stem.1": (4, 8, 8), "stem": (4, 8, 8), "pad": (4, 10, 10), "first.widen": (8, 8, 8),
        "first.halve": (4, 4, 4), "first": (4, 4, 4), "second.0.widen": (16, 4, 4), "second.0.halve": (8, 2, 2),
        "second.0": (8, 2, 2), "second.1": (8, 2, 2), "second": (8, 2, 2), "linear": (3,),
    }  # fmt: skip
    assert list(layers)[:4] == ["stem.0", "stem.1", "stem", "pad"]
    assert {name: layer.convolutions for name, layer in layers.items() if "." not in name} == {
        "stem": 1, "pad": 0, "first": 2, "second": 2, "linear": 0,
    }  # fmt: skip
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_grids_with_their_channels_last_are_not_maps() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    assert list(layers_of(nn.Sequential(nn.Conv2d(3, 40, 1), Last()), INPUTS)) == ["0"]


def test_a_stage_ends_with_its_last_block_and_a_stem_is_none() -> None:
    assert stage_ends(layers_of(Net(), INPUTS)) == {(4, 4): "first", (2, 2): "second"}


def test_without_blocks_a_stage_ends_with_its_last_layer() -> None:
    layers = {name: Layer(shape) for name, shape in {"a": (4, 8, 8), "b": (4, 8, 8), "c": (9, 4, 4), "d": (9,)}.items()}
    assert stage_ends(layers) == {(8, 8): "b"}
    assert stage_ends({name: layers[name] for name in ("a", "c", "d")}) == {(8, 8): "a", (4, 4): "c"}
    assert stage_ends({"d": layers["d"]}) == {}


def test_stages_of_the_zoo() -> None:
    inputs = torch.zeros(2, 3, 32, 32)
    for name, ends in {
        "cifar_resnet20": ["layer1", "layer2", "layer3"],
        "mlperf_resnet8": ["a", "b", "c"],
        "cifar_mobilenet_v2": ["features.3", "features.6", "features.13", "features"],
    }.items():
        assert list(stage_ends(layers_of(build(name, num_classes=10), inputs)).values()) == ends
