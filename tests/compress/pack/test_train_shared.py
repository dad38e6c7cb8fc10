from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from edgelathe.compress.pack.share_weights import shared_values
from edgelathe.compress.pack.train_shared import settle_parameters, share_parameters
from edgelathe.compress.train import train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import nn

SmallNet = Callable[[], nn.Module]


def linear(weights: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    layer.weight.data = torch.tensor(weights)
    return layer


def test_the_weights_become_those_of_share_weights(small_net: SmallNet) -> None:
    model = small_net()
    expected = shared_values(model[0].weight.detach().numpy(), 3)
    layers = share_parameters(model, bits=3, layer_bits={"6": 2})
    assert [(layer.layer, layer.bits, layer.values, layer.reason) for layer in layers] == [
        ("0", 3, 8, ""),
        ("6", 2, 4, ""),
    ]
    assert isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), expected)


@pytest.mark.parametrize(("gradient", "expected"), [("sum", [9.0, 8.0]), ("mean", [4.5, 4.0])])
def test_the_gradient_of_a_centroid_is_that_of_its_weights(gradient: str, expected: list[float]) -> None:
    layer = linear([[-1.0, 3.0, 0.0], [0.0, -3.0, 5.0]])  # centroids -2 and 4
    share_parameters(layer, bits=1, gradient=gradient)  # type: ignore[arg-type]
    np.testing.assert_array_equal(layer.weight.detach(), [[-2.0, 4.0, 0.0], [0.0, -2.0, 4.0]])
    coefficients = torch.tensor([[1.0, 3.0, 100.0], [100.0, 8.0, 5.0]])
    (layer.weight * coefficients).sum().backward()
    (centroids,) = layer.parameters()
    np.testing.assert_allclose(centroids.detach(), [-2.0, 4.0])
    np.testing.assert_allclose(centroids.grad, expected)


def test_zeros_stay_zero_and_values_stay_shared_through_training(small_net: SmallNet, blobs: Dataset) -> None:
    model = small_net()
    with torch.no_grad():
        model[0].weight[model[0].weight.abs() < 0.08] = 0
    zeros = model[0].weight == 0
    share_parameters(model, bits=2, gradient="mean")
    before = model[0].weight.detach().clone()
    result = train(model, blobs, preprocess=blobs.preprocess, epochs=2, batch=32, lr=0.05, progress=False)
    assert result.test_accuracy > 0.5
    settle_parameters(model)
    weight = model[0].weight
    assert isinstance(weight, nn.Parameter)
    assert set(model.state_dict()) == set(small_net().state_dict())
    np.testing.assert_array_equal(weight == 0, zeros)
    assert len(weight[weight != 0].unique()) == 4
    assert not torch.allclose(weight, before)


def test_what_cannot_share_is_left_with_the_reason_or_refused(small_net: SmallNet) -> None:
    model = small_net()
    first, last = share_parameters(model, bits=7)
    assert first.reason == ""
    assert 64 < first.values <= 128
    assert last.reason == "it has no more than 128 weights"
    assert share_parameters(model, bits=2)[0].reason == "its weights are parametrized already"
    with pytest.raises(EdgeLatheError, match="Cannot share the weights of this network: it has no convolution"):
        share_parameters(nn.ReLU())
    with pytest.raises(EdgeLatheError, match="bits = 0"):
        share_parameters(small_net(), bits=0)
    with pytest.raises(EdgeLatheError, match='Unknown layer "7"'):
        share_parameters(small_net(), layer_bits={"7": 3})
    with pytest.raises(EdgeLatheError, match='Unknown gradient "middle"'):
        share_parameters(small_net(), gradient="middle")  # type: ignore[arg-type]
