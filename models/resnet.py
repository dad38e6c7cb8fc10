"""Residual networks for 32x32 images: He et al. 2016 (section 4.2), and the ResNet-8 of MLPerf Tiny."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import errors


class OptionAShortcut(nn.Module):
    """The shortcut without parameters: take every stride-th pixel, pad with zero channels on both sides.

    [N, in_channels, H, W] -> [N, out_channels, H / stride, W / stride]. It joins channels by position, which
    no dependency tracer sees, so the channels on either side of it cannot be removed one by one; those on either side
    of a `ChannelSelection` can.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class ChannelSelection(nn.Conv2d):
    """What an option A shortcut computes, as a 1 x 1 convolution of zeros and ones that no training changes."""

    def __init__(self, shortcut: OptionAShortcut) -> None:
        inputs, outputs, stride = shortcut.in_channels, shortcut.out_channels, shortcut.stride
        super().__init__(inputs, outputs, 1, stride, bias=False)
        first = shortcut.padding[4]
        chosen = torch.zeros(outputs, inputs, 1, 1)
        chosen[first : first + inputs, :, 0, 0] = torch.eye(inputs)
        self.weight = nn.Parameter(chosen, requires_grad=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Literal["A", "B"]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = (
                OptionAShortcut(in_channels, out_channels, stride)
                if shortcut == "A"
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages of `blocks` blocks: `width`, twice and four times that, each at half the resolution."""

    def __init__(
        self, blocks: int, num_classes: int, in_channels: int, width: int, shortcut: Literal["A", "B"]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1, shortcut)
        self.layer2 = _stage(blocks, width, 2 * width, 2, shortcut)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


def _stage(blocks: int, in_channels: int, out_channels: int, stride: int, shortcut: Literal["A", "B"]) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1, shortcut) for _ in range(1, blocks)))


def cifar_resnet(
    depth: int, *, num_classes: int, in_channels: int, width: int = 16, shortcut: Literal["A", "B"] = "A"
) -> CifarResNet:
    """ResNet of `depth` = 6 n + 2 layers: [N, in_channels, 32, 32] -> logits [N, num_classes].

    `shortcut` is He et al.'s option: "A" has no parameters, "B" is a 1x1 convolution. Parameter names are
    those of Idelbayev's published CIFAR-10 checkpoints.
    """
    if shortcut not in ("A", "B"):
        raise errors.inputs.unknown_choice("shortcut", shortcut, ("A", "B"))
    return CifarResNet((depth - 2) // 6, num_classes, in_channels, width, shortcut)


class MlperfResNet8(nn.Module):
    """The image classifier of MLPerf Tiny (Banbury et al. 2021), padded as TensorFlow does; inputs 0..255."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(in_channels, width), nn.ReLU())
        self.a = nn.Sequential(*_conv_norm(width, width), nn.ReLU(), *_conv_norm(width, width))
        self.b = _halving(width, 2 * width)
        self.bs = nn.Conv2d(width, 2 * width, 1, 2)
        self.c = _halving(2 * width, 4 * width)
        self.cs = nn.Conv2d(2 * width, 4 * width, 1, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.a(x) + x)
        x = F.relu(self.b(x) + self.bs(x))
        x = F.relu(self.c(x) + self.cs(x))
        return self.fc(self.pool(x).flatten(1))


def _conv_norm(
    in_channels: int, out_channels: int, stride: int = 1, padding: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding)
    return convolution, nn.BatchNorm2d(out_channels, eps=1e-3)


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    """TensorFlow pads a stride-2 convolution below and to the right only."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)),
        *_conv_norm(in_channels, out_channels, stride=2, padding=0),
        nn.ReLU(),
        *_conv_norm(out_channels, out_channels),
    )


def mlperf_resnet8(*, num_classes: int, in_channels: int, width: int = 16) -> MlperfResNet8:
    """[N, in_channels, 32, 32] -> logits [N, num_classes]; 78 k parameters for CIFAR-10."""
    return MlperfResNet8(num_classes, in_channels, width)
