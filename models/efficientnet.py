"""EfficientNet-B0 for 32x32 images: Tan and Le 2019, with the first two strides of 2 taken out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import conv_norm, init_convolutions, scaled

# expansion, channels, repeats, stride of the first block, kernel (paper: table 1)
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 1, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what its mean over the image suggests (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(self.activation(self.reduce(self.pool(x)))))


class MBConv(nn.Module):
    """Inverted residual with squeeze and excitation; in training its branch is skipped with `drop_path`."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int, kernel: int, drop_path: float
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            *([conv_norm(in_channels, hidden, 1, activation=nn.SiLU)] if expansion != 1 else []),
            conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.SiLU),
            SqueezeExcitation(hidden, max(1, in_channels // 4)),
            conv_norm(hidden, out_channels, 1, activation=None),
        )
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if not self.residual:
            return y
        if self.training and self.drop_path:
            kept = torch.rand(len(x), 1, 1, 1, dtype=y.dtype, device=y.device) >= self.drop_path
            y = y * kept / (1 - self.drop_path)
        return x + y


class EfficientNet(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width_mult: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        channels, blocks = scaled(32, width_mult), sum(repeats for _, _, repeats, _, _ in _STAGES)
        layers: list[nn.Module] = [conv_norm(in_channels, channels, 3, activation=nn.SiLU)]
        for expansion, width, repeats, stride, kernel in _STAGES:
            for number in range(repeats):
                out_channels, step = scaled(width, width_mult), 1 if number else stride
                skipped = drop_path * (len(layers) - 1) / blocks
                layers.append(MBConv(channels, out_channels, step, expansion, kernel, skipped))
                channels = out_channels
        last = scaled(1280, width_mult)
        self.features = nn.Sequential(*layers, conv_norm(channels, last, 1, activation=nn.SiLU))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.pool(self.features(x)).flatten(1)))


def cifar_efficientnet_b0(
    *,
    num_classes: int,
    in_channels: int,
    width_mult: float = 1.0,
    dropout: float = 0.2,
    drop_path: float = 0.0,
) -> EfficientNet:
    """[N, in_channels, 32, 32] -> logits [N, num_classes]; the last feature map is 4x4.

    `drop_path` is the share of branches skipped in training, growing from 0 at the first block to this.
    """
    return EfficientNet(num_classes, in_channels, width_mult, dropout, drop_path)
