"""Exponential moving averages of a network's weights over its training steps (Polyak & Juditsky 1992).

    average <- d average + (1 - d) weight,   d = min(decay, (1 + n) / (10 + n)) at step n

The second term is TensorFlow's: short runs average over about their last tenth instead of keeping what they began with.
Running statistics of batch norms are averaged in the same way, counters are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Beside one network, which trains on with its own weights."""

    def __init__(self, model: nn.Module, decay: float, *, zeros_stay: bool) -> None:
        """zeros_stay -- a weight that is exactly zero is zero in the average too: a constraint holds it there."""
        self._decay, self._zeros_stay = decay, zeros_stay
        self._weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self._averages = {name: tensor.clone() for name, tensor in self._weights.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        """For a checkpoint, to be filled in place."""
        return {f"average.{name}": tensor for name, tensor in self._averages.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """After a step of the optimizer, `step` of which were made before it."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, average in self._averages.items():
            if average.is_floating_point():
                average.lerp_(self._weights[name], 1 - decay)
            else:
                average.copy_(self._weights[name])

    @torch.no_grad()
    def put_into_network(self) -> None:
        for name, average in self._averages.items():
            weight = self._weights[name]
            weight.copy_(average * (weight != 0) if self._zeros_stay and average.is_floating_point() else average)

    @contextmanager
    def in_the_network(self) -> Iterator[None]:
        """The network has the averages, and then its own weights again."""
        own = {name: tensor.clone() for name, tensor in self._weights.items()}
        self.put_into_network()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in own.items():
                    self._weights[name].copy_(tensor)
