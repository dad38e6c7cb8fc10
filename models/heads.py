"""What a type of attention module says of itself: where its heads lie, and what meets in a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn


class HeadTensor(NamedTuple):
    """A tensor of an attention module with an axis that runs over `parts` x heads x what each head has of it."""

    owner: str
    """The submodule that holds it; empty for the attention itself."""
    name: str
    axis: int
    parts: int
    """3 where query, key and value lie one behind the other."""


class Met(NamedTuple):
    """What meets in one call of an attention module, in all samples together."""

    read: int
    """Numbers from which query, key and value are made, each counted for itself."""
    queries: int
    keys: int
    """That one query is compared with."""


class HeadKind(NamedTuple):
    """A type of attention module."""

    heads: str
    """The attribute that says how many heads it has."""
    makes: HeadTensor
    """The weight that makes query, key and value of the input, [3 x heads x head_dim, embed_dim]."""
    reads: HeadTensor
    """The weight of the output projection, [embed_dim, heads x head_dim]."""
    others: tuple[HeadTensor, ...]
    narrow: type[nn.Module]
    """What it becomes when heads go."""
    meets: Callable[..., Met]
    """Of the module and the arguments of a call."""
    bias: str = ""
    """The method that computes the relative position bias, where there is one."""

    @property
    def tensors(self) -> tuple[HeadTensor, ...]:
        return self.makes, self.reads, *self.others
