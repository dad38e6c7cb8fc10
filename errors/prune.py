"""Channel pruning."""

from __future__ import annotations

from collections.abc import Iterable

from .base import EdgeLatheError


def foreign_plan(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the pruning plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def cannot_trace(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot follow the channels through the network: {why}; prune another network, or leave pruning out."
    )


def nothing_prunable(reasons: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune channels of this network: no group of channels may be cut ({_some(reasons)}); leave pruning out."
    )


def unreachable_macs(keep: float, least: float, left: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to {keep:.1%} of the MACs: with every prunable layer at its narrowest {least:.1%} remain "
        f"({_some(left)}); raise keep_macs or lower multiple."
    )


def bad_importance(layer: str, channels: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rank the channels of {layer}: the criterion must return {channels} finite numbers; "
        "mend the criterion or the weights."
    )


def _some(reasons: Iterable[str]) -> str:
    listed = list(reasons)
    more = f"; and {len(listed) - 2} more" if len(listed) > 2 else ""
    return "; ".join(listed[:2]) + more if listed else "nothing was left alone"
