"""Single weights, wherever they lie (Han et al. 2015, magnitude pruning).

No kernel of the runtimes measured here skips single zeros. XNNPACK's sparse kernels for 1x1 convolutions of float32
do, one output channel at a time.
"""

from __future__ import annotations

from torch import Tensor


def pool(scores: Tensor) -> Tensor:
    """Every weight is a unit of its own."""
    return scores


def spread(kept: Tensor, _shape: tuple[int, ...]) -> Tensor:
    return kept


def refusal(_shape: tuple[int, ...]) -> str:
    """Any weight can have the pattern."""
    return ""
