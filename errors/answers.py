"""A teacher's answers, stored on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError


def cannot_store(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot store the teacher's answers: {why}; change that, or leave store_answers out so that the teacher "
        "answers in every step."
    )


def not_finite(teacher: str, image: int, view: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot store the answers of {teacher}: to training image {image} in view {view} it answers with numbers that "
        "are not finite; check its weights, mean and std."
    )


def no_space(folder: Path | str, needed: int, free: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot store the teacher's answers in {folder}: they take {megabytes(needed)} and {megabytes(free)} are "
        "free; free space, lower views, or set store_answers = false."
    )


def foreign_answers(path: Path | str, different: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the stored answers {path}: they are of another {', '.join(different)}; delete their folder to "
        "have them computed."
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
