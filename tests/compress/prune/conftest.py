"""Toy networks, one for each way in which channels hang together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.models.resnet import OptionAShortcut
from torch import Tensor, nn
from torch.nn import functional as F


class Chain(nn.Module):
    """Convolutions in a row, a PReLU per channel, and a classifier behind a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.conv2 = nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc1 = nn.Linear(6 * 16, 12)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """Two convolutions whose outputs are added: the stream is one group, the inner layer another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 10, 3, padding=1)
        self.outer = nn.Conv2d(10, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        return self.fc(x.mean(dim=(2, 3)))


class OptionA(nn.Module):
    """A block whose shortcut pads with zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.outer = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = OptionAShortcut(4, 8, 2)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.outer(F.relu(self.inner(x))) + self.shortcut(x))
        return self.fc(x.mean(dim=(2, 3)))


class OwnOptionA(OptionA):
    """The same written by a user: no type gives it away."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Identity()  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        x = F.relu(self.outer(F.relu(self.inner(x))) + shortcut)
        return self.fc(x.mean(dim=(2, 3)))


class Dense(nn.Module):
    """A concatenation, with a batch norm over it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(10)
        self.c = nn.Conv2d(10, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = self.c(F.relu(self.bn(torch.cat([x, self.b(x)], 1))))
        return self.fc(F.relu(x).mean(dim=(2, 3)))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection, shortcut: a mobile block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.expand = nn.Conv2d(6, 12, 1, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)
        self.project = nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.silu(self.depthwise(F.silu(self.bn(self.expand(x)))))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.fc((x + self.project(y * gate)).mean(dim=(2, 3)))


class Upsampling(nn.Module):
    """A transposed convolution in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 8, 2, stride=2)
        self.last = nn.Conv2d(8, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.last(F.relu(self.up(F.relu(self.down(x)))))).mean(dim=(2, 3)))


class Grouped(nn.Module):
    """A grouped convolution and a group norm, beside a layer without either."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.b = nn.Conv2d(8, 8, 1)
        self.norm = nn.GroupNorm(2, 8)
        self.free = nn.Conv2d(8, 24, 3)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.b(F.relu(self.grouped(F.relu(self.a(x))))))
        return self.fc(F.relu(self.free(F.relu(x))).mean(dim=(2, 3)))


class Positional(nn.Module):
    """Sums neighbouring channels by position: a tracer sees nothing wrong with cutting them."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.b(F.relu(x + x.roll(1, dims=1)))
        return self.fc(F.relu(x).mean(dim=(2, 3)))


class Aggregated(nn.Module):
    """A ResNeXt block: a grouped convolution between two of one pixel, and another one right behind the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.first = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.reduce = nn.Conv2d(8, 16, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 24, 3, padding=1, groups=4)
        self.expand = nn.Conv2d(24, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(F.relu(self.stem(x))))
        y = F.relu(self.grouped(F.relu(self.bn(self.reduce(x)))))
        return self.fc(F.relu(x + self.expand(y)).mean(dim=(2, 3)))


class MapNorm(nn.LayerNorm):
    """A layer norm over the channels of a map, as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    """Depthwise convolution, layer norm, two linear layers over the channels, a scale, a shortcut."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.linspace(scale / 2, scale, channels)[:, None, None])
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, 3 * channels)
        self.down = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return x + self.layer_scale * y


class Next(nn.Module):
    """Two blocks of ConvNeXt with a step between them."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = MapNorm(8)
        self.first = NextBlock(8, scale)
        self.step = nn.Sequential(MapNorm(8), nn.Conv2d(8, 12, 2, stride=2))
        self.second = NextBlock(12, scale)
        self.head = nn.Sequential(MapNorm(12), nn.Flatten(1), nn.Linear(12 * 4, 4))
        for norm in self.modules():
            if isinstance(norm, nn.LayerNorm):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.step(self.first(self.norm(self.stem(x))))))


class ShuffledBlock(nn.Module):
    """ShuffleNetV2's: half of the channels pass, the others are worked on, and then they are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, 3 * half, 1),
            nn.ReLU(),
            nn.Conv2d(3 * half, 3 * half, 3, padding=1, groups=3 * half),
            nn.Conv2d(3 * half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        joined = torch.cat([kept, self.branch(worked)], dim=1)
        batch, channels, height, width = joined.shape
        shuffled = joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return shuffled.view(batch, channels, height, width)


class Shuffled(nn.Module):
    """Two such blocks between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = ShuffledBlock(8), ShuffledBlock(8)
        self.last = nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(F.relu(self.stem(x))))
        return self.fc(F.relu(self.last(x)).mean(dim=(2, 3)))


NETWORKS = {
    kind.__name__: kind
    for kind in (
        Chain,
        Residual,
        OptionA,
        OwnOptionA,
        Dense,
        Inverted,
        Upsampling,
        Grouped,
        Positional,
        Aggregated,
        Next,
        Shuffled,
    )
}


@pytest.fixture
def make() -> Callable[[str], nn.Module]:
    """Build a toy network by name, with seeded weights and batch-norm statistics that are not 0 and 1."""

    def build(name: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            model = NETWORKS[name]()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, 0, 0.2)
                    nn.init.normal_(module.running_mean, 0, 0.2)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)
        return model.eval()

    return build


@pytest.fixture
def example() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
