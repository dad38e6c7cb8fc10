"""Modules of a network that were replaced after it was built, as plain data: what a file may say of them.

An edit names a module and what stands there now, out of a fixed list, so that rebuilding a network from a file
runs no code of the file's. The names of all other modules, and so of all tensors, stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from torch import nn

from .activations import activation_of
from .resnet import ChannelSelection, OptionAShortcut
from .squeeze_excite import is_squeeze_excite

Activation = Literal["relu6", "relu", "hardswish", "hardsigmoid"]
Becomes = Literal["relu6", "relu", "hardswish", "hardsigmoid", "identity", "selection"]

REPLACED_BY: dict[Activation, tuple[str, ...]] = {
    "relu6": ("silu", "hardswish", "gelu", "mish"),
    "relu": ("silu", "hardswish", "gelu", "mish"),
    "hardswish": ("silu", "gelu", "mish"),
    "hardsigmoid": ("sigmoid",),
}
"""Which activations each one may stand in for: those of about the same shape."""

_MAKE: dict[str, Callable[[Any], nn.Module]] = {
    "relu6": lambda _: nn.ReLU6(),
    "relu": lambda _: nn.ReLU(),
    "hardswish": lambda _: nn.Hardswish(),
    "hardsigmoid": lambda _: nn.Hardsigmoid(),
    "identity": lambda _: nn.Identity(),
    "selection": ChannelSelection,
}
"""The module that stands in the place of another."""


_MADE = "_edgelathe_edits"
"""Attribute of a network that holds its edits: no tensor would tell that an activation was replaced."""


@dataclass(frozen=True)
class Edit:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    module: str
    becomes: Becomes
    """identity stands for a squeeze-and-excitation block that was dropped, selection for an option A shortcut."""


def edits_of(model: nn.Module) -> tuple[Edit, ...]:
    """The edits made in `model`, in order; copies and pruned copies of it keep them."""
    return getattr(model, _MADE, ())


def refusal(model: nn.Module, edit: Edit) -> str:
    """Why `edit` cannot be made in `model`; empty where it can."""
    module = dict(model.named_modules(remove_duplicate=False)).get(edit.module)
    if module is None or module is model:
        return f'it has no module "{edit.module}"'
    if edit.becomes == "identity":
        return "" if is_squeeze_excite(module) else f"{edit.module} is no squeeze-and-excitation block"
    if edit.becomes == "selection":
        return "" if isinstance(module, OptionAShortcut) else f"{edit.module} is no option A shortcut"
    if activation_of(module) not in REPLACED_BY[edit.becomes]:
        return f"{edit.module} ({type(module).__name__}) is no activation that {edit.becomes} stands in for"
    return ""


def make_edit(model: nn.Module, edit: Edit) -> None:
    """Replace the module, in place; only where `refusal` has nothing against it."""
    owner, _, attribute = edit.module.rpartition(".")
    replaced = model.get_submodule(edit.module)
    replacement = _MAKE[edit.becomes](replaced).train(replaced.training)
    setattr(model.get_submodule(owner), attribute, replacement)
    setattr(model, _MADE, (*edits_of(model), edit))
