"""MobileNetV2 for 32x32 images: Sandler et al. 2018, with the first two strides of 2 taken out."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import conv_norm, init_convolutions, scaled

# expansion, channels, repeats, stride of the first block (paper: table 2)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; a shortcut where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            *([conv_norm(in_channels, hidden, 1, activation=nn.ReLU6)] if expansion != 1 else []),
            conv_norm(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6),
            conv_norm(hidden, out_channels, 1, activation=None),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width_mult: float, dropout: float) -> None:
        super().__init__()
        channels, last = scaled(32, width_mult), scaled(1280, max(1.0, width_mult))
        layers: list[nn.Module] = [conv_norm(in_channels, channels, 3, activation=nn.ReLU6)]
        for expansion, width, repeats, stride in _STAGES:
            for number in range(repeats):
                out_channels = scaled(width, width_mult)
                layers.append(InvertedResidual(channels, out_channels, 1 if number else stride, expansion))
                channels = out_channels
        self.features = nn.Sequential(*layers, conv_norm(channels, last, 1, activation=nn.ReLU6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.pool(self.features(x)).flatten(1)))


def cifar_mobilenet_v2(
    *, num_classes: int, in_channels: int, width_mult: float = 1.0, dropout: float = 0.0
) -> MobileNetV2:
    """[N, in_channels, 32, 32] -> logits [N, num_classes]; the last feature map is 4x4."""
    return MobileNetV2(num_classes, in_channels, width_mult, dropout)
