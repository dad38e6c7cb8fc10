"""Weight pruning."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError


def unknown_pattern(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Unknown pattern "{name}": write unstructured, kernel, N:M with N below M (2:4), RxC in channels (4x1), or '
        "strided-S (strided-2)."
    )


def empties_layer(weight: str, keep: float, scope: str) -> EdgeLatheError:
    other = ', choose scope = "layer"' if scope == "global" else ""
    return EdgeLatheError(
        f"Cannot keep {keep:.2%} of the weights: nothing of {weight} would stay, and the network would be cut through; "
        f"raise keep{other}, or name the layer in ignore."
    )


def nothing_to_sparsify(pattern: str, reasons: Iterable[str]) -> EdgeLatheError:
    listed = list(reasons)
    some = "; ".join(listed[:2]) + (f"; and {len(listed) - 2} more" if len(listed) > 2 else "")
    return EdgeLatheError(
        f"Cannot sparsify this network in the pattern {pattern}: every layer stays dense "
        f"({some or 'it has no convolutions or linear layers'}); choose another pattern, or name layers in only."
    )


def not_gradual(pattern: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot sparsify gradually in the pattern {pattern}: there is nothing between all taps and every s-th one; "
        "use sparsify and train afterwards."
    )


def foreign_plan(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the sparsity plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def foreign_masks(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use the masks {path}: {why}; sparsify the network again.")


def lost_zeros(weight: str, count: int, when: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot go on with the sparse network: {count} weight{'s' * (count > 1)} of {weight} that were pruned are no "
        f"longer zero {when}; train it with what holds them (constraint = hold_zeros(model)), or sparsify it again."
    )
