"""DenseNet-BC for 32x32 images: Huang et al. 2017 (section 3, bottleneck layers and compression)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseLayer(nn.Module):
    """Adds `growth` channels to its input: norm, ReLU, 1x1 to 4 x growth, norm, ReLU, 3x3 to growth."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        return torch.cat([x, y], 1)


class DenseBlock(nn.Module):
    def __init__(self, layers: int, in_channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DenseLayer(in_channels + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Transition(nn.Module):
    """Compresses channels and halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(F.relu(self.bn(x))))


class DenseNet(nn.Module):
    def __init__(
        self, num_classes: int, in_channels: int, growth: int, blocks: Sequence[int], compression: float
    ) -> None:
        super().__init__()
        channels = 2 * growth
        stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.features = nn.Sequential(stem, nn.BatchNorm2d(channels), nn.ReLU())
        for number, layers in enumerate(blocks, start=1):
            self.features.add_module(f"denseblock{number}", DenseBlock(layers, channels, growth))
            channels += layers * growth
            if number < len(blocks):
                compressed = int(channels * compression)
                self.features.add_module(f"transition{number}", Transition(channels, compressed))
                channels = compressed
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(F.relu(self.features(x))).flatten(1))


def cifar_densenet(
    *,
    num_classes: int,
    in_channels: int,
    growth: int = 12,
    blocks: Sequence[int] = (16, 16, 16),
    compression: float = 0.5,
) -> DenseNet:
    """DenseNet-BC: [N, in_channels, 32, 32] -> logits [N, num_classes].

    `blocks` counts the layers of each block; the defaults are the paper's L = 100, growth 12.
    """
    return DenseNet(num_classes, in_channels, growth, blocks, compression)
