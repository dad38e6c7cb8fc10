"""Penalties that pull whole channels towards zero while a network trains, so that cutting them later costs little.

    group-lasso  loss + s * sum over groups, channels k of || w_k ||_2
    bn-scale     loss + s * sum over groups, channels k of sum | gamma_k |

w_k is all that makes channel k of a group: its filters, in every layer that makes it, with their biases, and gamma and
beta of the batch norms behind them. The pull on w_k has the same strength whatever its length, so that short ones
vanish first (Yuan & Lin 2006; Wen et al. 2016, structured sparsity learning; over dependency groups as in Fang et al.
2023). Batch norms alone: Liu et al. 2017, network slimming. Only channels that can be cut are pulled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .. import errors
from .objective import Batch, Objective
from .prune.plan import Group
from .prune.trace import trace_groups

Sparsity = Literal["none", "group-lasso", "bn-scale"]
SPARSITIES: tuple[str, ...] = ("none", "group-lasso", "bn-scale")

_SMALLEST = 1e-12
"""Under the root: the slope of a root at zero is infinite."""


@dataclass(frozen=True)
class Part:
    """The entries of one parameter that belong to channels of one group."""

    layer: nn.Module
    name: str
    positions: Tensor
    """int64 [n], of the layer's output channels."""
    channels: Tensor
    """int64 [n]: the group's channel at each of them."""

    @property
    def is_scale(self) -> bool:
        return isinstance(self.layer, _BatchNorm) and self.name == "weight"

    def magnitudes(self) -> Tensor:
        """Of a vector of parameters, float32 [n]."""
        return self.layer.get_parameter(self.name).float()[self.positions].abs()

    def squares(self) -> Tensor:
        """Sums of squares over all that the parameter holds for each position, float32 [n]."""
        squares = self.layer.get_parameter(self.name).float().square()
        if isinstance(self.layer, _ConvTransposeNd) and squares.ndim > 1:
            squares = squares.flatten(2).sum(dim=2).unflatten(0, (self.layer.groups, -1)).sum(dim=1).flatten()
        return (squares.flatten(1).sum(dim=1) if squares.ndim > 1 else squares)[self.positions]


@dataclass(frozen=True)
class Penalised(Objective):
    """Another objective with a penalty on channels added to its loss."""

    objective: Objective
    sparsity: Sparsity
    strength: float
    groups: Sequence[tuple[int, tuple[Part, ...]]]
    """Channels and parts of each group."""

    def settings(self) -> Mapping[str, object]:
        return {**self.objective.settings(), "sparsity": self.sparsity, "sparsity_strength": self.strength}

    def __call__(self, batch: Batch) -> Tensor:
        return self.objective(batch) + self.strength * self.penalty()

    def trained(self) -> nn.Module | None:
        return self.objective.trained()

    def listening(self, model: nn.Module, /) -> AbstractContextManager[object]:
        return self.objective.listening(model)

    def logged(self) -> Mapping[str, float]:
        return self.objective.logged()

    def penalty(self) -> Tensor:
        terms = []
        for channels, parts in self.groups:
            if self.sparsity == "bn-scale":
                terms += [part.magnitudes().sum() for part in parts if part.is_scale]
            else:
                squares = torch.zeros(channels)
                for part in parts:
                    squares = squares.index_add(0, part.channels, part.squares())
                terms.append((squares + _SMALLEST).sqrt().sum())
        return torch.stack(terms).sum()


def penalised(
    objective: Objective, model: nn.Module, example: Tensor, sparsity: Sparsity, strength: float
) -> Penalised:
    """`objective` with a penalty on the channels of `model` that can be cut; it follows the parameters as they train.

    example -- float32 [N,C,H,W], for its shape.
    Raises EdgeLatheError for a network of which no channels can be cut, that cannot be traced, or that has no batch
    norms whose scales could be pulled.
    """
    traced = trace_groups(model, example, ())
    open_groups = [group for group in traced if not group.reason]
    if not open_groups:
        raise errors.prune.nothing_prunable([f"{group.layer}: {group.reason}" for group in traced])
    layers = dict(model.named_modules())
    groups = [(group.before, tuple(_parts(group, layers))) for group in open_groups]
    if sparsity == "bn-scale" and not any(part.is_scale for _, parts in groups for part in parts):
        raise errors.training.no_scales_to_pull()
    return Penalised(objective, sparsity, strength, groups)


def _parts(group: Group, layers: Mapping[str, nn.Module]) -> Iterator[Part]:
    for member in group.members:
        layer = layers[member.layer]
        if member.parameter or member.side == "in" or not isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm)):
            continue
        positions = torch.arange(member.start, member.start + member.count * member.repeat)
        channels = torch.arange(member.first, member.first + member.count).repeat_interleave(member.repeat)
        for name, parameter in layer.named_parameters(recurse=False):
            if name in ("weight", "bias") and parameter.requires_grad:
                yield Part(layer, name, positions, channels)
