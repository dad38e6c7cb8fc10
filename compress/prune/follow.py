"""Torch-Pruning's dependency graph of a network, around and inside of the modules that are beyond it.

Modules that stay whole (attention.py) are gone round and not entered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...models.resnet import OptionAShortcut
from .attention import stays_whole


@dataclass(frozen=True)
class Followed:
    """A module whose graph could be made."""

    name: str
    """Empty for the whole network."""
    groups: list[tp.dependency.Group]
    shortcuts: Mapping[object, str]
    """The autograd operations inside of each OptionAShortcut, and its name."""
    entrances: Mapping[object, str]
    """The autograd operations that lead into a module which nothing can be followed through, and its name."""


def follow(network: nn.Module, noise: Tensor) -> Iterator[Followed]:
    """The graph of `network`, which stops at modules that are beyond Torch-Pruning (a shuffle of channels), and the
    graphs of what is inside of these.

    `network` is in eval mode with gradients on; `noise` is float32 [1,C,H,W]. Raises EdgeLatheError when the network
    does not run, returns anything but one tensor of finite numbers, or no graph can be made at all.
    """
    followed, failure = _try(network, "", {"": noise}, ())
    if followed:
        yield followed
        return
    inputs = _inputs(network, noise)
    opaque = _opaque(network, "", inputs)
    around, _ = _try(network, "", inputs, opaque) if opaque != [""] else (None, "")
    inside = [_try(network, part, inputs, ())[0] for name in opaque for part in _parts_of(name, network, inputs)]
    if not around and not any(inside):
        raise errors.prune.cannot_trace(failure)
    yield from (followed for followed in (around, *inside) if followed)


def _inputs(network: nn.Module, noise: Tensor) -> dict[str, Tensor]:
    """What each module of one tensor in and one out is given when it first runs, by its name."""
    given: dict[str, Tensor] = {}

    def record(name: str, inputs: tuple[Tensor, ...], output: object) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            given.setdefault(name, inputs[0])

    hooks = [
        module.register_forward_hook(lambda _module, inputs, output, name=name: record(name, inputs, output))
        for name, module in network.named_modules()
    ]
    try:
        with torch.no_grad():
            output = network(noise)
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(noise.shape[1:], str(reason).splitlines()[0]) from reason
    finally:
        for hook in hooks:
            hook.remove()
    _sound(output)
    return given


def _sound(output: object) -> Tensor:
    if not isinstance(output, Tensor) or not bool(torch.isfinite(output).all()):
        raise errors.prune.cannot_trace("it does not return one tensor of finite numbers")
    return output


def _opaque(network: nn.Module, name: str, inputs: Mapping[str, Tensor]) -> list[str]:
    """The smallest modules, of `name` and what is inside, whose graphs cannot be made; `name` is known to be none."""
    failing = [part for part in _parts_of(name, network, inputs) if not _try(network, part, inputs, ())[0]]
    return [inner for part in failing for inner in _opaque(network, part, inputs)] or [name]


def _parts_of(name: str, network: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """The modules right inside of `name` that hold layers of channels and ran as one."""
    parts = []
    for child, module in network.get_submodule(name).named_children():
        path = f"{name}.{child}" if name else child
        if not stays_whole(module) and any(isinstance(layer, (_ConvNd, nn.Linear)) for layer in module.modules()):
            parts += [path] if path in inputs else _parts_of(path, network, inputs)
    return parts


def _try(
    network: nn.Module, name: str, inputs: Mapping[str, Tensor], opaque: Sequence[str]
) -> tuple[Followed | None, str]:
    """The graph of the module `name`, as if those of `opaque` were not inside; or why it cannot be made."""
    module, graph = network.get_submodule(name), tp.DependencyGraph()
    shortcuts: dict[object, str] = {}
    entering: list[tuple[Tensor, str]] = []
    hooks = [
        shortcut.register_forward_hook(_Inside(path, shortcuts))
        for path, shortcut in network.named_modules()
        if isinstance(shortcut, OptionAShortcut)
    ]
    whole = [path for path, part in network.named_modules() if stays_whole(part)]
    for path in {*opaque, *whole}:
        hooks.append(network.get_submodule(path).register_forward_hook(_Cut(path, entering), with_kwargs=True))
    try:
        with torch.enable_grad():
            graph.build_dependency(
                module,
                [inputs[name]],  # a list: a bare tensor would be taken apart along its first axis
                output_transform=lambda output: [_sound(output), *(tensor for tensor, _ in entering)],
                verbose=False,
            )
            found = graph.get_all_groups(root_module_types=(_ConvNd, nn.Linear))
            inside = {layer for path in whole for layer in network.get_submodule(path).modules()}
            groups = [group for group in found if group[0].dep.target.module not in inside]
    except Exception as reason:  # of a third party, and of any kind
        return None, f"{type(reason).__name__}: {reason}"
    finally:
        for hook in hooks:
            hook.remove()
    return Followed(name, groups, shortcuts, {tensor.grad_fn: path for tensor, path in entering}), ""


class _Cut:
    """Forward hook that ends the graph at a module: its input leads nowhere, its output comes from nowhere."""

    def __init__(self, name: str, entering: list[tuple[Tensor, str]]) -> None:
        self.name, self.entering = name, entering

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        given = [each for each in (*inputs, *keywords.values()) if isinstance(each, Tensor)]
        self.entering += [(tensor, self.name) for tensor in given if tensor.grad_fn is not None]
        if isinstance(output, tuple):  # of attention: what is attended to, and perhaps the weights
            return output[0].detach(), *output[1:]
        return output.detach()


class _Inside:
    """Forward hook that notes the autograd operations of one module."""

    def __init__(self, name: str, inside: dict[object, str]) -> None:
        self.name, self.inside = name, inside

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        waiting = [output.grad_fn]
        while waiting:
            operation = waiting.pop()
            if operation is not None and operation is not inputs[0].grad_fn and operation not in self.inside:
                self.inside[operation] = self.name
                waiting += [before for before, _ in operation.next_functions]
