"""What the mobile families share."""

from __future__ import annotations

from torch import nn


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None,
) -> nn.Sequential:
    """Convolution that keeps the size at stride 1, batch norm, activation."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def scaled(channels: int, factor: float) -> int:
    """channels x factor as a multiple of 8, at least 8, at most a tenth too small (MobileNetV2's rule)."""
    nearest = max(8, int(channels * factor + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels * factor else nearest + 8


def init_convolutions(model: nn.Module) -> None:
    """Kaiming normal over outputs, biases zero: what both papers' reference code does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
