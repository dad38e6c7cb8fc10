"""Augmentation of whole batches of uint8 images, with every draw made once per epoch.

A shifted and mirrored batch is one gather: row and column indices say which pixel of the zero-padded image
lands where, and mirroring reverses the column indices. Padding is black pixels (zeros before normalisation),
as in He et al. 2016 (random crop from the image padded by 4 of 32 pixels, random horizontal flip).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .seeds import derived_seed

Augment = Literal["none", "shift", "crop-flip"]
AUGMENTS: tuple[Augment, ...] = get_args(Augment)


@dataclass(frozen=True)
class Draws:
    """What happens to each image of one epoch, in the order in which the epoch visits them."""

    rows: Tensor
    """int64 [n], 0..2*margin: first row of the crop in the padded image."""
    columns: Tensor
    """int64 [n], the same for columns."""
    mirrored: Tensor
    """bool [n]."""
    margin: int

    def part(self, first: int, last: int) -> Draws:
        return Draws(self.rows[first:last], self.columns[first:last], self.mirrored[first:last], self.margin)

    def of(self, numbers: Tensor) -> Draws:
        """What happens to the images of these positions, int64 [m]."""
        return Draws(self.rows[numbers], self.columns[numbers], self.mirrored[numbers], self.margin)


def draw(kind: Augment, images: int, height: int, width: int, generator: torch.Generator) -> Draws | None:
    """Draw one epoch's shifts (up to an eighth of the shorter side, at least a pixel) and its flips."""
    if kind == "none":
        return None
    margin = max(1, round(min(height, width) / 8))
    rows = torch.randint(0, 2 * margin + 1, (images,), generator=generator)
    columns = torch.randint(0, 2 * margin + 1, (images,), generator=generator)
    mirrored = torch.rand(images, generator=generator) < (0.5 if kind == "crop-flip" else 0.0)
    return Draws(rows, columns, mirrored, margin)


def view_draws(kind: Augment, images: int, height: int, width: int, *, seed: int, view: int) -> Draws | None:
    """The draws of one of a fixed number of views, by position in `data.train`: the same whenever asked for."""
    return draw(kind, images, height, width, torch.Generator().manual_seed(derived_seed(seed, view, "view")))


def augment(images: Tensor, draws: Draws | None) -> Tensor:
    """Shift and mirror `images`, uint8 [N,H,W,C], as `draws` of the same N says; the shape stays."""
    if draws is None:
        return images
    count, height, width, _ = images.shape
    margin = draws.margin
    padded = F.pad(images, (0, 0, margin, margin, margin, margin))
    rows = draws.rows[:, None] + torch.arange(height)
    columns = draws.columns[:, None] + torch.where(
        draws.mirrored[:, None], torch.arange(width - 1, -1, -1), torch.arange(width)
    )
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
