"""Batches whose images are mixed with each other, and labels in the same shares.

    mixup   x = round(lambda x_i + (1 - lambda) x_j)                              (Zhang et al. 2018)
    cutmix  x = x_i, with a rectangle of x_j over 1 - lambda of its area          (Yun et al. 2019)

with lambda drawn from Beta(strength, strength) for every image, and j a permutation of the batch. The loss of an image
is lambda CE(s, y_i) + (1 - lambda) CE(s, y_j). Rectangles are centred anywhere and cut off at the border, where lambda
becomes the share of the pixels that are left, as published. Both papers draw one lambda per batch; here each image has
its own, which costs nothing and makes the gradient of a batch vary less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Mix = Literal["none", "mixup", "cutmix"]
MIXES: tuple[Mix, ...] = get_args(Mix)


@dataclass(frozen=True)
class Mixing:
    """What mixup or cutmix did to the images of one batch."""

    partners: Tensor
    """int64 [N], labels of the images that were mixed in."""
    shares: Tensor
    """float32 [N], 0 to 1: how much of each image is its own."""

    def part(self, own: slice) -> Mixing:
        return Mixing(self.partners[own], self.shares[own])


def mixed(
    kind: Mix, images: Tensor, labels: Tensor, strength: float, generator: torch.Generator
) -> tuple[Tensor, Mixing | None]:
    """`images`, uint8 or float32 [N,H,W,C], mixed among each other; `labels` int64 [N]. The type stays."""
    if kind == "none":
        return images, None
    partners = torch.randperm(len(labels), generator=generator)
    shares = _beta(strength, len(labels), generator)
    others = images[partners]
    if kind == "mixup":
        blended = torch.lerp(others.float(), images.float(), shares[:, None, None, None])
        images = blended.round_().to(torch.uint8) if images.dtype == torch.uint8 else blended
    else:
        cut = _rectangles(shares, images.shape[1], images.shape[2], generator)
        images = torch.where(cut[..., None], others, images)
        shares = 1 - cut.flatten(1).float().mean(dim=1)
    return images, Mixing(labels[partners], shares)


def _beta(strength: float, count: int, generator: torch.Generator) -> Tensor:
    """float32 [count] from Beta(strength, strength), the share of one of two gamma variates in their sum."""
    concentration = torch.full((2, count), strength, dtype=torch.float64)
    gammas = torch._standard_gamma(concentration, generator=generator).clamp_min(torch.finfo(torch.float64).tiny)
    return (gammas[0] / gammas.sum(dim=0)).float()


def _rectangles(shares: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """bool [N,H,W]: pixels within a rectangle of sides sqrt(1 - share) of the image's, around a random centre."""
    sides = (1 - shares).sqrt()
    spans = []
    for length in (height, width):
        half = (sides * length).floor() / 2
        centre = torch.randint(0, length, (len(shares),), generator=generator)
        first, last = (centre - half).floor().clamp(0, length), (centre + half).floor().clamp(0, length)
        at = torch.arange(length)
        spans.append((at >= first[:, None]) & (at < last[:, None]))
    rows, columns = spans
    return rows[:, :, None] & columns[:, None, :]
