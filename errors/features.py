"""Layers of two networks that a loss compares."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from .base import EdgeLatheError
from .data import _by

_LISTED = 8


def unknown_layer(name: str, whose: str, candidates: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot compare layer "{name}" of the {whose}: it has no such layer that gives maps or vectors; '
        f"candidates, the nearest first: {_nearest_first(name, candidates)}."
    )


def no_stages(whose: str, candidates: Sequence[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot choose layers to compare by resolution: no layer of the {whose} gives maps of more than one pixel; "
        f"name layers instead, of {_nearest_first('', candidates)}."
    )


def no_layers() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot compare features with layers = []: nothing is named; name one or more, or leave layers out."
    )


def no_positions(
    student: str, teacher: str, student_shape: Iterable[int], teacher_shape: Iterable[int]
) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot compare the attention of "{student}" [{_by(student_shape)}] with that of "{teacher}" '
        f"[{_by(teacher_shape)}]: one of them has a single position; name layers that give maps."
    )


def feature_missing(name: str, whose: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot compare layer "{name}" of the {whose}: it did not run with this batch, as it did before; '
        "name a layer that always runs."
    )


def idle_key(key: str, loss: str, belongs_to: Iterable[str]) -> EdgeLatheError:
    wanted = " or ".join(f'"{name}"' for name in belongs_to)
    return EdgeLatheError(
        f'Cannot use {key} with loss = "{loss}": it says nothing there; leave it out, or set loss = {wanted}.'
    )


def _nearest_first(name: str, candidates: Iterable[str]) -> str:
    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, name, candidate).ratio()

    ranked = sorted(candidates, key=likeness, reverse=True)
    more = f" and {len(ranked) - _LISTED} more" if len(ranked) > _LISTED else ""
    return (", ".join(ranked[:_LISTED]) or "none") + more
