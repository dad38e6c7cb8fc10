from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.sparsify.weights import find_weights
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn
from torch.nn.utils import parametrizations

FIRST = "it reads the images: few weights, on which all others depend"
DEPTHWISE = "it is depthwise: few weights, and each channel has no others"


def reasons(model: nn.Module, example: Tensor, only: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> dict:
    return {weight.name: weight.reason for weight in find_weights(model, example, only, ignore)}


def test_the_first_layer_and_depthwise_ones_stay_dense(conv_net: Callable[[], nn.Module], example: Tensor) -> None:
    found = reasons(conv_net(), example)
    assert found == {"0.weight": FIRST, "3.weight": "", "6.weight": DEPTHWISE, "10.weight": ""}


def test_the_first_layer_is_the_one_that_runs_first(example: Tensor) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)
            self.stem = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stem(x).mean(dim=(2, 3)))

    assert reasons(Backwards(), example) == {"head.weight": "", "stem.weight": FIRST}


def test_layers_named_in_only_are_sparsified_whatever_they_are(
    conv_net: Callable[[], nn.Module], example: Tensor
) -> None:
    found = reasons(conv_net(), example, only=("0", "6"))
    other = "it is not named in only"
    assert found == {"0.weight": "", "3.weight": other, "6.weight": "", "10.weight": other}


def test_layers_named_in_ignore_stay_dense(conv_net: Callable[[], nn.Module], example: Tensor) -> None:
    network = nn.Sequential(conv_net()[:4], conv_net()[4:])
    assert reasons(network, example, ignore=("1",))["1.6.weight"] == "it is named in ignore"
    assert reasons(network, example, only=("0",), ignore=("0.3",))["0.3.weight"] == "it is named in ignore"


def test_what_cannot_be_sparsified_says_why(example: Tensor) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3), parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    )
    assert list(reasons(network, example).values()) == [
        FIRST, "transposed convolutions are not sparsified", "it is computed from others (parametrized)"
    ]  # fmt: skip


def test_a_weight_that_two_layers_share_is_listed_once(example: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    network[2].weight = network[1].weight
    assert list(reasons(network, example)) == ["0.weight", "1.weight"]


def test_projections_of_attention_are_weights_too() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(8, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.attention(x, x, x)[0]

    names = list(reasons(Attention(), torch.zeros(1, 4, 8)))
    assert names == ["stem.weight", "attention.in_proj_weight", "attention.out_proj.weight"]


@pytest.mark.parametrize("key", ["only", "ignore"])
def test_unknown_layers_are_refused(conv_net: Callable[[], nn.Module], example: Tensor, key: str) -> None:
    with pytest.raises(EdgeLatheError, match=f'Unknown layer in {key} "33": '):
        reasons(conv_net(), example, **{key: ("33",)})


def test_a_network_that_rejects_the_images_is_refused(conv_net: Callable[[], nn.Module]) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot run the network on images of shape \[5 x 8 x 8\]"):
        find_weights(conv_net(), torch.zeros(1, 5, 8, 8), (), ())
