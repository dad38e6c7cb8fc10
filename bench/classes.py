"""What a deployed file answers class by class: how much of each it finds, and what it takes the rest for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .accuracy import paired
from .records import ClassAnswers


def class_answers(
    predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], reference: np.ndarray | None = None
) -> tuple[ClassAnswers, ...]:
    """One record per class that has images, in the order of `names`.

    predictions, labels, reference -- int [N]; the last one, another file's predictions, is what gains and losses are
    counted against. An answer that no class belongs to is named by the number of the output.
    """
    found = []
    told = _distinct(names, outputs=1 + int(predictions.max(initial=0)))
    for label in range(len(names)):
        here = labels == label
        if not here.any():
            continue
        answers, counts = np.unique(predictions[here & (predictions != label)], return_counts=True)
        frequent = sorted(zip(counts.tolist(), answers.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        gained, lost = (None, None) if reference is None else paired(predictions[here], reference[here], labels[here])
        found.append(
            ClassAnswers(
                name=told[label],
                total=int(here.sum()),
                correct=int((predictions[here] == label).sum()),
                taken_for={told[answer]: count for count, answer in frequent},
                gained=gained,
                lost=lost,
            )
        )
    return tuple(found)


def _distinct(names: Sequence[str], outputs: int) -> list[str]:
    """A name for every output of a network, numbered where a data set gives one name to several classes."""
    told = [*names, *(f"output {number}" for number in range(len(names), outputs))]
    return told if len(set(told)) == len(told) else [f"{name} ({number})" for number, name in enumerate(told)]
