"""The weighting of teacher against labels in distillation."""

from __future__ import annotations

from collections.abc import Iterable

from .base import EdgeLatheError


def unread_setting(name: str, value: object, weighting: str, readers: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot use {name} = {value} with weighting = "{weighting}": only {", ".join(readers)} '
        f"read{'' if len(list(readers)) > 1 else 's'} it; leave it out or choose another weighting."
    )
