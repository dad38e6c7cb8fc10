"""What holds a network to a form while it is trained: asked around every step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Constraint(Protocol):
    """Made for one network, whose parameters it may change."""

    def settings(self) -> Mapping[str, object]:
        """All that it depends on, as JSON values: a checkpoint of other settings is refused."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """What a checkpoint must hold besides the network and its momentum; filled in place when it is read."""
        ...

    def before_step(self, at: float, /) -> None:
        """Gradients are there and the weights have not moved; `at` is how many epochs are done."""
        ...

    def after_step(self, at: float, optimizer: torch.optim.Optimizer, /) -> None:
        """The weights have moved; `at` is how many epochs are done now."""
        ...

    def check(self) -> None:
        """Training is over; raises EdgeLatheError when the network is not what it is held to."""
        ...
