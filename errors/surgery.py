"""Activations replaced and gates dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .base import EdgeLatheError
from .prune import _some


def nothing_to_replace(
    to: str, replaceable: Sequence[str], found: Mapping[str, int], left: Sequence[str], do: str
) -> EdgeLatheError:
    listed = ", ".join(f"{count} {what}" for what, count in sorted(found.items())) or "no activation"
    why = f" ({_some(left)})" if left else ""
    return EdgeLatheError(
        f"Cannot replace activations by {to}: it stands in for modules that compute {_either(replaceable)}, the "
        f"network computes {listed}, and none of these may be replaced{why}; {do}."
    )


def nothing_to_open() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot open shortcuts: the network has no option A shortcut (CIFAR ResNets of the zoo have them); leave this "
        "stage out."
    )


def nothing_to_drop(ignored: int) -> EdgeLatheError:
    if ignored:
        return EdgeLatheError(
            f"Cannot drop squeeze-and-excitation blocks: all {ignored} of the network are named in ignore; "
            "leave this stage out."
        )
    return EdgeLatheError(
        "Cannot drop squeeze-and-excitation blocks: no module of the network is one (two layers that weigh each "
        "channel by its mean over the image); leave this stage out, or make a module of code that stands in a forward."
    )


def name_without_effect(key: str, name: str, what: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use "{name}" in {key}: it holds no {what}; take it out of {key}.')


def foreign_surgery(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the surgery plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
