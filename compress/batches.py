"""The batches of a training run: which images, how augmented, how mixed; all of it follows from (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .augment import Augment, Draws, augment, draw, view_draws
from .mix import Mix, Mixing, mixed
from .parallel import Team
from .seeds import derived_seed


@dataclass(frozen=True)
class Share:
    """What one process sees of one batch."""

    numbers: Tensor
    """int64 [n], positions in `data.train`."""
    labels: Tensor
    """int64 [n]."""
    images: Tensor
    """uint8 [n,H,W,C], augmented and mixed."""
    mixing: Mixing | None
    view: int
    of_batch: float
    """n as a share of the whole batch; 1 for a process that trains alone."""


@dataclass(frozen=True)
class TrainingImages:
    images: Tensor
    """uint8 [N,H,W,C]."""
    labels: Tensor
    """int64 [N]."""
    batch: int
    """Of all processes together."""
    augment: Augment
    views: int
    mix: Mix
    mix_strength: float
    seed: int
    team: Team

    @property
    def steps(self) -> int:
        """Per epoch."""
        # The last partial batch of an epoch is left out: which images it holds changes with every epoch, and
        # one size of batch keeps batch-norm statistics and compiled code the same.
        return max(1, len(self.labels) // self.batch)

    def epoch(self, number: int) -> Iterator[Share]:
        """This process's share of every batch of an epoch; `number` counts from 1."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number, "images"))
        order = torch.randperm(len(self.labels), generator=generator)
        view = (number - 1) % self.views if self.views else number - 1
        draws = self._draws(order, view, generator)
        mixes = torch.Generator().manual_seed(derived_seed(self.seed, number, "mix"))
        for step in range(self.steps):
            first, last = step * self.batch, (step + 1) * self.batch
            yield self._share(order[first:last], draws.part(first, last) if draws else None, view, mixes)

    def _draws(self, order: Tensor, view: int, generator: torch.Generator) -> Draws | None:
        count, height, width = self.images.shape[:3]
        if not self.views:
            return draw(self.augment, count, height, width, generator)
        draws = view_draws(self.augment, count, height, width, seed=self.seed, view=view)
        return draws.of(order) if draws else None

    def _share(self, numbers: Tensor, draws: Draws | None, view: int, mixes: torch.Generator) -> Share:
        own = self.team.own(len(numbers))
        of_batch = (own.stop - own.start) / len(numbers)
        if self.mix == "none":
            mine = numbers[own]
            part = draws.part(own.start, own.stop) if draws else None
            return Share(mine, self.labels[mine], augment(self.images[mine], part), None, view, of_batch)
        # The image that is mixed in may belong to another process: each augments the whole batch.
        whole, mixing = mixed(
            self.mix, augment(self.images[numbers], draws), self.labels[numbers], self.mix_strength, mixes
        )
        mine = numbers[own]
        return Share(mine, self.labels[mine], whole[own], mixing.part(own) if mixing else None, view, of_batch)
