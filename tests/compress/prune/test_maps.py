from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.maps import average_over_maps
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def samples() -> Samples:
    generator = torch.Generator().manual_seed(9)
    return Samples(torch.randn(7, 3, 8, 8, generator=generator), torch.zeros(7, dtype=torch.int64))


def _mean(_layer: str, maps: Tensor) -> Tensor:
    return maps.mean(dim=(0, 2, 3))


class Inside(nn.Module):
    """Operations in place behind every layer, as torchvision writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.fc(self.relu(y).mean(dim=(2, 3)))


def test_maps_are_those_behind_batch_norm_and_activation(samples: Samples) -> None:
    torch.manual_seed(3)
    model = Inside().eval()
    nn.init.uniform_(model.bn1.bias, -1, 1)
    nn.init.uniform_(model.bn2.weight, 0.5, 2)
    found = average_over_maps(model, ["conv1", "conv2", "fc"], samples, _mean)
    with torch.no_grad():
        first = F.relu(model.bn1(model.conv1(samples.inputs)))
        second = model.bn2(model.conv2(first))
    assert torch.allclose(found["conv1"], first.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    # An addition follows, and the activation is behind that: it is no map of this layer.
    assert torch.allclose(found["conv2"], second.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    assert found["fc"].shape == (2,)


def test_activations_of_any_kind(make: Make, samples: Samples) -> None:
    model = make("Chain")
    found = average_over_maps(model, ["conv1", "conv2", "fc1"], samples, _mean)
    with torch.no_grad():
        first = model.act(model.bn1(model.conv1(samples.inputs)))  # type: ignore[operator]
        second = F.relu(model.bn2(model.conv2(first)))  # type: ignore[operator]
        third = F.relu(model.fc1(second.flatten(1)))  # type: ignore[operator]
    assert torch.allclose(found["conv1"], first.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    assert torch.allclose(found["conv2"], second.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    assert torch.allclose(found["fc1"], third.mean(dim=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_answers_are_averaged_over_images_whatever_the_batches(make: Make, samples: Samples, batch: int) -> None:
    seen: list[int] = []

    def count(layer: str, maps: Tensor) -> Tensor:
        assert maps.shape[1:] == {"inner": (10, 8, 8), "outer": (8, 8, 8)}[layer]
        seen.append(len(maps))
        return maps.square().mean(dim=(0, 2, 3))

    found = average_over_maps(make("Residual"), ["inner", "outer"], samples, count, batch=batch)
    assert max(seen) <= batch
    assert sum(seen) == 2 * 7
    whole = average_over_maps(
        make("Residual"), ["inner", "outer"], samples, lambda _, maps: maps.square().mean(dim=(0, 2, 3)), batch=7
    )
    assert torch.allclose(found["inner"], whole["inner"], rtol=1e-5, atol=0)


def test_no_map_is_kept(make: Make, samples: Samples) -> None:
    earlier: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def look(_layer: str, maps: Tensor) -> Tensor:
        alive.append(sum(one() is not None for one in earlier))
        earlier.append(weakref.ref(maps))
        return torch.zeros(maps.shape[1])

    average_over_maps(make("Residual"), ["stem", "inner", "outer"], samples, look, batch=2)
    assert alive == [0] * 12


def test_a_layer_that_is_called_twice_is_looked_at_twice(samples: Samples) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.conv(F.relu(self.bn(self.conv(x)))))

    model = Twice().eval()
    found = average_over_maps(model, ["conv"], samples, _mean)["conv"]
    with torch.no_grad():
        first = F.relu(model.bn(model.conv(samples.inputs)))
        second = torch.sigmoid(model.conv(first))
    assert torch.allclose(found, (first + second).mean(dim=(0, 2, 3)) / 2, rtol=1e-5, atol=1e-6)


def test_tokens_become_a_column_of_pixels() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(2).transpose(1, 2)).mean(dim=1)

    shapes = []

    def look(_layer: str, maps: Tensor) -> Tensor:
        shapes.append(tuple(maps.shape))
        return torch.zeros(5)

    average_over_maps(Tokens(), ["fc"], Samples(torch.zeros(2, 3, 4, 4), torch.tensor([0, 0])), look)
    assert shapes == [(2, 5, 16, 1)]


def test_a_layer_that_is_never_called(samples: Samples) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.conv.weight)

    with pytest.raises(EdgeLatheError) as caught:
        average_over_maps(Around(), ["conv"], samples, _mean)
    assert str(caught.value) == (
        "Cannot look at the feature maps of conv: the network uses its weights without calling it; name it in ignore, "
        "or choose a criterion that looks at weights (fpgm, l1, l2)."
    )


def test_nothing_is_left_behind_even_by_a_criterion_that_fails(make: Make, samples: Samples) -> None:
    model = make("Inverted").train()
    before = state_sha256(model)

    def fail(_layer: str, _maps: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        average_over_maps(model, ["expand"], samples, fail)
    average_over_maps(model, ["expand"], samples, _mean)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training for module in model.modules())
    assert state_sha256(model) == before
