"""Which weights of a network may be sparsified, and why the others stay dense.

Left dense unless they are named in `only`:

- the first layer: it has few weights and all others work on what it sees (Zhu & Gupta 2017 and Gale et al. 2019 leave
  it dense);
- depthwise convolutions: few weights as well, each channel's only ones (Zhu & Gupta 2017).

The last layer is sparsified like any other, as in Han et al. 2015 and Mishra et al. 2021. Biases and norms never are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from ... import errors


@dataclass(frozen=True)
class Weight:
    name: str
    """Of the parameter: "layer1.0.conv1.weight"."""
    parameter: nn.Parameter
    """[out, in, taps...]."""
    reason: str
    """Why it stays dense; empty where it may be sparsified."""


def find_weights(model: nn.Module, example: Tensor, only: Sequence[str], ignore: Sequence[str]) -> tuple[Weight, ...]:
    """The weights of all convolutions, linear layers and attention projections, in the order of the network.

    example -- float32 [N, C, H, W]: what the first layer is found with.
    Raises EdgeLatheError for unknown names in `only` and `ignore`, and for a network that cannot run on `example`.
    """
    names = [name for name, _ in model.named_modules() if name]
    for key, given in (("only", only), ("ignore", ignore)):
        for name in given:
            if name not in names:
                raise errors.inputs.unknown_choice(f"layer in {key}", name, names)
    first = _first_layer(model, example)
    found: list[Weight] = []
    seen: set[int] = set()
    for layer, module, name, parameter in _candidates(model):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if _within(layer, ignore):
            reason = "it is named in ignore"
        elif only and not _within(layer, only):
            reason = "it is not named in only"
        else:
            reason = _unfit(module, parameter) or ("" if only else _better_dense(module, first))
        found.append(Weight(name, parameter, reason))
    return tuple(found)


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    for layer, module in model.named_modules():
        attribute = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        if not isinstance(module, (_ConvNd, nn.Linear, nn.MultiheadAttention)):
            continue
        dot = "." if layer else ""
        if parametrize.is_parametrized(module, attribute):
            inner = f"parametrizations.{attribute}."
            originals = [item for item in module.named_parameters() if item[0].startswith(inner)]
            name, parameter = max(originals, key=lambda item: item[1].numel())
            yield layer, module, f"{layer}{dot}{name}", parameter
        elif isinstance(parameter := getattr(module, attribute), nn.Parameter):
            yield layer, module, f"{layer}{dot}{attribute}", parameter


def _within(layer: str, names: Sequence[str]) -> bool:
    return any(f"{layer}.".startswith(f"{name}.") for name in names)


def _unfit(module: nn.Module, parameter: nn.Parameter) -> str:
    if all(parameter is not own for own in module.parameters(recurse=False)):
        return "it is computed from others (parametrized)"
    return "transposed convolutions are not sparsified" if isinstance(module, _ConvTransposeNd) else ""


def _better_dense(module: nn.Module, first: nn.Module | None) -> str:
    if module is first:
        return "it reads the images: few weights, on which all others depend"
    if isinstance(module, _ConvNd) and module.groups == module.in_channels > 1:
        return "it is depthwise: few weights, and each channel has no others"
    return ""


def _first_layer(model: nn.Module, example: Tensor) -> nn.Module | None:
    """The convolution or linear layer that runs first."""
    ran: list[nn.Module] = []
    layers = [module for module in model.modules() if isinstance(module, (_ConvNd, nn.Linear))]
    hooks = [layer.register_forward_pre_hook(lambda module, _: ran.append(module)) for layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example[:1])
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(example.shape[1:], str(reason).splitlines()[0]) from reason
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return ran[0] if ran else None
