"""Feature maps behind every layer, shown to a criterion batch by batch: one pass over the samples, no map is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ... import errors
from .evidence import Samples, answer

MAP_BATCH = 64

_NORMALISATIONS = {F.batch_norm, F.instance_norm, F.group_norm, F.layer_norm}
_ACTIVATIONS = {
    F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.hardswish,
    F.hardsigmoid, F.leaky_relu, F.prelu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.sigmoid,
    torch.sigmoid, Tensor.sigmoid, F.tanh, torch.tanh, Tensor.tanh,
}  # fmt: skip


@dataclass
class _Call:
    """One call of a layer, and the operations that follow it: a normalisation, an activation, or both in this order."""

    newest: Tensor
    operations: list[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    version: int = 0
    """Of `newest`: an operation in place that is none of these, `x += shortcut`, raises it."""
    ended: bool = False

    def leads_to(self, value: object) -> bool:
        return not self.ended and value is self.newest and self.newest._version == self.version

    def apply(self, output: Tensor) -> Tensor:
        for operation, arguments, keywords in self.operations:
            output = operation(output.clone(), *arguments, **keywords)  # a clone: the operation may work in place
        return output


class _Followers(TorchFunctionMode):
    """Records, while a network runs, which operations follow the calls of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[_Call]] = {}

    def called(self, layer: str, output: Tensor) -> None:
        self.calls.setdefault(layer, []).append(_Call(output, version=output._version))

    def __torch_function__(
        self, operation: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        follows = arguments and (operation in _NORMALISATIONS or operation in _ACTIVATIONS)
        led = [call for calls in self.calls.values() for call in calls if follows and call.leads_to(arguments[0])]
        output = operation(*arguments, **(keywords or {}))
        for call in led:
            call.operations.append((operation, arguments[1:], keywords or {}))
            call.newest, call.version, call.ended = output, output._version, operation in _ACTIVATIONS
        return output


def average_over_maps(
    model: nn.Module,
    layers: Sequence[str],
    samples: Samples,
    score: Callable[[str, Tensor], Tensor],
    *,
    batch: int = MAP_BATCH,
) -> dict[str, Tensor]:
    """Mean over the samples of score(layer, maps), float32 [out_channels], for each of `layers`.

    maps: float32 [images, out_channels, h, w] in eval mode, behind the normalisation and the activation that follow
    the layer; of a linear layer [images, features, tokens, 1]. A layer that is called several times is scored at each.
    Raises EdgeLatheError for a layer that is never called.
    """
    network = copy.deepcopy(model).eval()
    followers = _Followers()
    with torch.no_grad():
        with followers:
            _run(network, layers, next(iter(samples.batches(1))), followers.called)
        total = {layer: torch.zeros(0) for layer in layers}
        seen = dict.fromkeys(layers, 0)
        for part in samples.batches(batch):
            calls = {layer: iter(followers.calls.get(layer, ())) for layer in layers}

            def look(layer: str, output: Tensor, calls: Any = calls) -> None:
                maps = _as_maps(next(calls[layer], _Call(output)).apply(output), network.get_submodule(layer))
                found = score(layer, maps) * len(maps)
                total[layer] = total[layer] + found if seen[layer] else found
                seen[layer] += len(maps)

            _run(network, layers, part, look)
    for layer in layers:
        if not seen[layer]:
            raise errors.prune.layer_without_maps(layer)
    return {layer: total[layer] / seen[layer] for layer in layers}


def _run(network: nn.Module, layers: Iterable[str], samples: Samples, look: Callable[[str, Tensor], None]) -> None:
    hooks = [
        network.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: look(layer, output)
        )
        for layer in layers
    ]
    try:
        answer(network, samples)
    finally:
        for hook in hooks:
            hook.remove()


def _as_maps(output: Tensor, layer: nn.Module) -> Tensor:
    maps = output.float()
    if isinstance(layer, nn.Linear):
        maps = maps.movedim(-1, 1)
    if maps.ndim < 4:
        return maps.reshape(*maps.shape, *[1] * (4 - maps.ndim))
    return maps.flatten(3)
