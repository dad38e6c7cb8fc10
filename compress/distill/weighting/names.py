"""The weighting rules by name and the settings that go with each."""

from __future__ import annotations

from typing import Literal, get_args

from .... import errors

Weighting = Literal["fixed", "accuracy", "confidence", "agreement", "entropy", "gap"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

LOWEST, HIGHEST = 0.1, 0.9
"""Limits of a share that follows the data: neither the labels nor the teacher are ever left out."""

BALANCED: tuple[Weighting, ...] = ("accuracy", "gap")
"""Rules that shift a balance between teacher and labels; their `alpha` is one half unless it is stated."""


def stated_alpha(weighting: str, alpha: float | None) -> float:
    """`alpha`, or what it is where it was not stated."""
    if alpha is not None:
        return alpha
    return 0.5 if weighting in BALANCED else 0.9


def check_weighting(
    weighting: str, alpha: float | None, alpha_min: float, alpha_max: float, teacher_accuracy: float | None
) -> None:
    """Raises EdgeLatheError for an unknown rule, shares outside of 0 to 1, and settings that the rule does not read."""
    if weighting not in WEIGHTINGS:
        raise errors.inputs.unknown_choice("weighting", weighting, WEIGHTINGS)
    if alpha is not None and not 0 <= alpha <= 1:
        raise errors.inputs.impossible_setting("alpha", alpha, "between 0 and 1")
    if not 0 <= alpha_min <= 1:
        raise errors.inputs.impossible_setting("alpha_min", alpha_min, "between 0 and 1")
    if not alpha_min <= alpha_max <= 1:
        raise errors.inputs.impossible_setting("alpha_max", alpha_max, f"between alpha_min = {alpha_min:g} and 1")
    if teacher_accuracy is not None and not 0 < teacher_accuracy <= 1:
        raise errors.inputs.impossible_setting("teacher_accuracy", teacher_accuracy, "a share above 0, 1 at most")
    if teacher_accuracy is not None and weighting != "accuracy":
        raise errors.weighting.unread_setting("teacher_accuracy", teacher_accuracy, weighting, ["accuracy"])
    if weighting == "fixed":
        for name, value, usual in (("alpha_min", alpha_min, LOWEST), ("alpha_max", alpha_max, HIGHEST)):
            if value != usual:
                raise errors.weighting.unread_setting(name, value, weighting, WEIGHTINGS[1:])
