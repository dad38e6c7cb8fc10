from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.evidence import Samples, gather_gradients
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def samples() -> Samples:
    generator = torch.Generator().manual_seed(9)
    return Samples(torch.randn(7, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 3, 1, 0]))


def _gradient(model: nn.Module, layer: str, samples: Samples) -> Tensor:
    weight = model.get_parameter(f"{layer}.weight")
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(samples.inputs), samples.labels), [weight])
    return gradient.flatten(1)


def test_gradients_by_hand() -> None:
    # One weight per logit and an input of 1: softmax of equal logits is 1/2, so dL/dw is 1/2 - 1 and 1/2.
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    one = Samples(torch.ones(4, 1, 1, 1), torch.tensor([0, 0, 0, 1]))
    found = gather_gradients(model, ["1"], one, batch=1)["1"]
    assert found.mean.tolist() == [[pytest.approx(-0.25)], [pytest.approx(0.25)]]
    assert found.squared.tolist() == [[pytest.approx(0.25)], [pytest.approx(0.25)]]
    # In one batch: the mean gradient squared, times four.
    assert gather_gradients(model, ["1"], one, batch=4)["1"].squared.tolist() == [[0.25], [0.25]]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_the_mean_gradient_does_not_depend_on_batches(make: Make, samples: Samples, batch: int) -> None:
    model = make("Inverted")
    found = gather_gradients(model, ["expand", "depthwise"], samples, batch=batch)
    for layer in ("expand", "depthwise"):
        assert torch.allclose(found[layer].mean, _gradient(model, layer, samples), rtol=1e-4, atol=1e-7)


def test_squared_gradients_of_single_samples_are_the_fisher_diagonal(make: Make, samples: Samples) -> None:
    model = make("Residual")
    found = gather_gradients(model, ["inner"], samples, batch=1)["inner"].squared
    wanted = torch.stack([_gradient(model, "inner", one).square() for one in samples.batches(1)]).mean(dim=0)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-9)


def test_squared_gradients_of_larger_batches_weigh_by_their_size(make: Make, samples: Samples) -> None:
    model = make("Residual")
    found = gather_gradients(model, ["inner"], samples, batch=5)["inner"].squared
    parts = [(len(part.labels), _gradient(model, "inner", part).square()) for part in samples.batches(5)]
    assert [size for size, _ in parts] == [5, 2]
    wanted = sum(size * size * square for size, square in parts) / 7
    assert torch.allclose(found, torch.as_tensor(wanted), rtol=1e-4, atol=1e-9)


def test_gradients_lie_as_filters_do_in_a_transposed_convolution(make: Make, samples: Samples) -> None:
    model = make("Upsampling")
    found = gather_gradients(model, ["up"], samples)["up"]
    gradient = _gradient(model, "up", samples).view(6, 8, 2, 2)
    assert found.mean.shape == found.squared.shape == (8, 24)
    assert torch.allclose(found.mean, gradient.transpose(0, 1).flatten(1), rtol=1e-4, atol=1e-7)


def test_all_layers_in_one_pass_and_nothing_is_left_behind(make: Make, samples: Samples) -> None:
    model = make("Chain").train().requires_grad_(False)
    before = state_sha256(model)
    passes = []
    hook = model.fc2.register_forward_hook(lambda *_: passes.append(1))  # type: ignore[union-attr]
    with torch.no_grad():
        found = gather_gradients(model, ["conv1", "conv2", "fc1"], samples, batch=4)
    hook.remove()
    assert len(passes) == 2
    assert all(float(gradients.mean.abs().sum()) > 0 for gradients in found.values())
    assert state_sha256(model) == before
    assert all(module.training for module in model.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


def test_a_layer_that_the_loss_does_not_reach_has_no_gradient(samples: Samples) -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 8), nn.Conv2d(3, 4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x).flatten(1)

    assert float(gather_gradients(Unused(), ["used", "idle"], samples)["idle"].squared.abs().sum()) == 0


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (torch.zeros(2, 3, 4), torch.tensor([0, 1])),
        (torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4), torch.tensor([0])),
        (torch.zeros(2, 3, 4, 4), torch.tensor([0.0, 1.0])),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])),
    ],
)
def test_samples_that_are_none(inputs: Tensor, labels: Tensor) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot use samples with inputs \[.*\] and labels \[[0-9]\]: give float"):
        Samples(inputs, labels)


def test_samples_that_the_network_does_not_take(make: Make, samples: Samples) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot run the network on images of shape \[2 x 8 x 8\]"):
        gather_gradients(make("Residual"), ["inner"], Samples(samples.inputs[:, :2], samples.labels))
    with pytest.raises(EdgeLatheError, match=r"labels up to 4 from outputs of shape \[7, 4\]"):
        gather_gradients(make("Residual"), ["inner"], Samples(samples.inputs, samples.labels + 1))
