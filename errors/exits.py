"""Early exits: where they can be, and files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import EdgeLatheError
from .features import _nearest_first


def no_stages(sizes: Sequence[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot place exits: among the network's feature maps ({', '.join(sizes)}) no stage ends before the last one; "
        "name layers in exits."
    )


def no_feature_maps() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot add exits: no layer of the network gives feature maps [N, channels, height, width] of the image's "
        "proportions, which exits read; train it with train or distill."
    )


def unknown_exit(name: str, candidates: Sequence[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot place an exit behind "{name}": no layer of that name gives feature maps; these do, the nearest first: '
        f"{_nearest_first(name, candidates)}."
    )


def repeated_exit(name: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot place two exits behind "{name}": name each layer once.')


def foreign_exits(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the exits {path}: {why}; restore the file, or delete its stage's folder to make it anew."
    )


def kept_exits_not_last(number: int, behind: str) -> str:
    return (
        f"stages.{number} (self-distill) keeps its exits, and {behind} behind it would change the network that they"
        " read; set keep_exits = false, or make it the last stage before the file is quantized"
    )
