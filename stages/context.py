"""What stages work with, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compress.distill.teachers import Teacher
from ..data import Dataset
from ..latencymeasure import Deployment
from ..models.exits import Exits
from ..networks import Network


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its own keys."""

    data: Dataset
    seed: int
    teacher: Network
    whole: Network
    """The network before the first of the steps that a stage of several is one of."""
    folder: Path
    """Where the stage works; a stage that is interrupted finds it again as it left it."""
    progress: bool
    deployment: Deployment = field(default_factory=Deployment)
    say: Callable[[str], None] = lambda _: None
    teachers: tuple[Teacher, ...] = ()
    """What stages learn from that have several."""


@dataclass(frozen=True)
class Outcome:
    model: nn.Module
    summary: str
    facts: dict[str, Any]
    widths: tuple[dict[str, Any], ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()
    masks: Mapping[str, torch.Tensor] | None = None
    """Of a stage that makes zeros; None: those that the network came with."""
    exits: Exits | None = None
    """Of a stage that keeps early exits."""


def several(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
