"""Networks, weights, structures, and functions that users bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import EdgeLatheError


def wrong_network_arguments(source: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot build {source} with these arguments: {why}; mend or remove them.")


def broken_weights(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the weights {path}: the file is truncated or no checkpoint of PyTorch or safetensors; "
        "get it again."
    )


def weights_need_code(path: Path, name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the weights {path}: it holds more than tensors ({name}) and reading it would run code; "
        "where you trust it, load it yourself and save model.state_dict() alone."
    )


def no_state_dict(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find weights in {path}: it holds neither names with tensors nor a state_dict of them; "
        "save model.state_dict()."
    )


def weights_not_finite(path: Path, name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the weights {path}: {name} has NaN or infinite values; the training had diverged, "
        "take an earlier checkpoint."
    )


def other_network(
    path: Path, missing: Sequence[str], unexpected: Sequence[str], unequal: Sequence[str]
) -> EdgeLatheError:
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", unequal))
    found = "; ".join(f"{len(names)} tensors are {kind} ({_first(names)})" for kind, names in kinds if names)
    return EdgeLatheError(f"Cannot load the weights {path} into this network: {found}; check source and arguments.")


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def broken_structure(path: Path, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot rebuild the network from {path}: {why}; restore the file or save it again.")


def structure_needs_code(folder: Path, source: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rebuild the network in {folder}: it was made by {source}, and what a file says is not run; "
        "pass the function that builds it."
    )


def user_file_failed(source: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {source}: it raised {why}; mend it and run again.")


def wrong_result(source: str, wanted: str, got: object) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {source}: it must return {wanted} and returned {type(got).__name__}.")


def saved_from_other(folder: Path, saved: str, asked: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot take the weights of the network in {folder}: it was made from {saved}, and the recipe says {asked};"
        " name the same source and arguments."
    )


def masked_narrow_attention() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot run attention that has lost heads with a mask: it attends to all positions; "
        "leave the mask out, or prune the network without the heads of this attention (ignore)."
    )
