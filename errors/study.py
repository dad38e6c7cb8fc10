"""Studies: comparing kinds of pruning."""

from __future__ import annotations

from .base import EdgeLatheError


def no_efficiency(what: str, value: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot say how efficient a network is whose {what} is {value:g}: the figure divides by it;"
        " leave this network out of the comparison."
    )


def no_match(what: str, target: float, least: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune weights until {what} is {target:,.0f}: with the fewest weights that may be left it is"
        f" {least:,.0f}; ask for a larger budget."
    )


def unmatched(channels: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot match {channels}, because it could not be made itself; read why there, and ask for a larger budget."
    )
