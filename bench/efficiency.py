"""Performance Efficiency: one figure for the accuracy that a smaller network keeps and the size that it sheds.

Malihi & Heidemann ("Matching the Ideal Pruning Method with Knowledge Distillation", Applied System Innovation 7:56,
2024) introduce a figure of this name. Their formula was not available to us: what `performance_efficiency` returns is
a reconstruction from the abstract. Whoever has the published formula replaces the last line of that function.
"""

from __future__ import annotations

from .. import errors


def retention(accuracy: float, reference_accuracy: float) -> float:
    """Accuracy as a share of the reference's; both in the same unit. Raises EdgeLatheError for a reference of 0."""
    if reference_accuracy <= 0:
        raise errors.study.no_efficiency("reference's accuracy", reference_accuracy)
    return accuracy / reference_accuracy


def compression(size: float, reference_size: float) -> float:
    """How many times smaller than the reference: parameters that are not zero, or bytes. Raises EdgeLatheError for a
    size of 0."""
    if size <= 0:
        raise errors.study.no_efficiency("size", size)
    return reference_size / size


def performance_efficiency(accuracy: float, reference_accuracy: float, size: float, reference_size: float) -> float:
    """Retention x compression: 1 for the reference itself, without an upper limit.

    accuracy, reference_accuracy -- in the same unit, shares or percent
    size, reference_size         -- in the same unit: parameters that are not zero, or encoded bytes

    A network of 1 % of the size with half of the accuracy scores 50, so it ranks only networks whose accuracy is
    acceptable. Raises EdgeLatheError where the reference's accuracy or the size is 0.
    """
    kept, times_smaller = retention(accuracy, reference_accuracy), compression(size, reference_size)
    return kept * times_smaller
