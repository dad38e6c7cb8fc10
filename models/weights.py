"""Trained weights from files of others: safetensors, or pickles read as tensors only."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import errors

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")


@dataclass(frozen=True)
class WeightReport:
    """What became of the tensors of a file; loading succeeds only if the last three are empty."""

    loaded: int
    prefix: str
    """What was stripped from the names in the file."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unequal: tuple[str, ...]
    """Names with both shapes, "name [file] instead of [network]"."""


def load_weights(model: nn.Module, path: Path | str) -> WeightReport:
    """Load a checkpoint into `model`, strictly: every tensor is used and every one the model has is there.

    Reads .safetensors, and .pt, .pth or .th with `weights_only=True`; finds the state dict in a training
    checkpoint and strips what wrappers put before its names. Raises EdgeLatheError, with the model unchanged,
    for a file that is missing, truncated, needs code to be read, holds NaN, or belongs to another network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise errors.inputs.missing_file("the weights", path)
    state, prefix = _strip(_state_dict(path, _read(path)), model)
    report = _compare(state, prefix, model)
    if report.missing or report.unexpected or report.unequal:
        raise errors.networks.other_network(path, report.missing, report.unexpected, report.unequal)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise errors.networks.weights_not_finite(path, name)
    # Not strict: batch norms of before PyTorch 0.4.1 do not count batches, and nothing here needs the count.
    load_tensors(model, state, strict=False)
    return report


def load_tensors(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool) -> None:
    """Load `state`, whose names and shapes are those of `model`, as if a network like `model` had saved it.

    A state dict carries the versions of the modules that made it, files of tensors do not, and there are modules that
    refuse to be loaded without (MNASNet).
    """
    versioned = OrderedDict(state)
    vars(versioned)["_metadata"] = vars(model.state_dict())["_metadata"]
    model.load_state_dict(versioned, strict=strict)


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        if wanted := re.search(r"GLOBAL (\S+)", str(reason)):
            raise errors.networks.weights_need_code(path, wanted[1]) from reason
        raise errors.networks.broken_weights(path) from reason
    # A damaged file fails wherever its reader stumbles.
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError) as reason:
        raise errors.networks.broken_weights(path) from reason


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content or not all(map(torch.is_tensor, content.values())):
        raise errors.networks.no_state_dict(path)
    return {str(name): tensor for name, tensor in content.items()}


def _strip(state: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Remove wrappers' prefixes that all names share and that the model's own names do not begin with."""
    own, stripped = model.state_dict(), ""
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None or any(name.startswith(prefix) for name in own):
            return state, stripped
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        stripped += prefix


def _compare(state: Mapping[str, Tensor], prefix: str, model: nn.Module) -> WeightReport:
    own = model.state_dict()
    both = own.keys() & state.keys()
    return WeightReport(
        loaded=len(both),
        prefix=prefix,
        missing=tuple(name for name in own if name not in both and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in sorted(state) if name not in both),
        unequal=tuple(
            f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
            for name in own
            if name in both and state[name].shape != own[name].shape
        ),
    )
