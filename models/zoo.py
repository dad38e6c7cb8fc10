"""Networks by name: CIFAR families of our own, torchvision's classifiers, and a user's own factory."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .. import errors, userfunction
from .densenet import cifar_densenet
from .efficientnet import cifar_efficientnet_b0
from .mobilenet import cifar_mobilenet_v2
from .resnet import cifar_resnet, mlperf_resnet8

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet8": partial(cifar_resnet, 8),
    "cifar_resnet20": partial(cifar_resnet, 20),
    "cifar_resnet32": partial(cifar_resnet, 32),
    "cifar_resnet44": partial(cifar_resnet, 44),
    "cifar_resnet56": partial(cifar_resnet, 56),
    "cifar_resnet110": partial(cifar_resnet, 110),
    "mlperf_resnet8": mlperf_resnet8,
    "cifar_densenet": cifar_densenet,
    "cifar_mobilenet_v2": cifar_mobilenet_v2,
    "cifar_efficientnet_b0": cifar_efficientnet_b0,
}

_TORCHVISION = "torchvision:"


def build(source: str, *, num_classes: int, in_channels: int = 3, **arguments: Any) -> nn.Module:
    """A new network with random weights: float32 [N, in_channels, H, W] -> logits [N, num_classes].

    source: one of
        a name in NETWORKS          further arguments are those of the family's function
        "torchvision:<name>"        any torchvision classifier; further arguments are torchvision's
        "path/to/file.py:function"  is given `num_classes` and `in_channels` where it has such parameters, and
                                    all further arguments; must return an nn.Module
    Raises EdgeLatheError for names and arguments that do not exist.
    """
    if source in NETWORKS:
        _check_arguments(source, NETWORKS[source], arguments)
        factory = NETWORKS[source]
    elif source.startswith(_TORCHVISION):
        factory = partial(_torchvision, source.removeprefix(_TORCHVISION))
    elif userfunction.is_user_function(source):
        return _user_network(source, num_classes, in_channels, arguments)
    else:
        valid = (*NETWORKS, "torchvision:<name>", "path/to/file.py:function")
        raise errors.inputs.unknown_choice("network", source, valid)
    try:
        return factory(num_classes=num_classes, in_channels=in_channels, **arguments)
    except (TypeError, ValueError, RuntimeError) as reason:
        raise errors.networks.wrong_network_arguments(source, str(reason)) from reason


def _check_arguments(source: str, function: Callable[..., nn.Module], arguments: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in arguments:
        if name not in parameters:
            raise errors.inputs.unknown_choice(f"argument of {source}", name, parameters)


def _torchvision(name: str, *, num_classes: int, in_channels: int, **arguments: Any) -> nn.Module:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise errors.inputs.unknown_choice("torchvision network", name, names)
    # Auxiliary heads make the output of these two a tuple in training; nothing here uses them.
    if name in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "init_weights": True, **arguments}
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    if in_channels != 3:
        _replace_stem(model, in_channels)
    return model


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    """The first convolution of torchvision's classifiers reads three channels; let it read another number."""
    name, stem = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    kept = {key: getattr(stem, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    parent, _, attribute = name.rpartition(".")
    replacement = nn.Conv2d(in_channels, stem.out_channels, bias=stem.bias is not None, **kept)
    setattr(model.get_submodule(parent), attribute, replacement)


def _user_network(source: str, num_classes: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    function = userfunction.load_function(source)
    _check_arguments(source, function, arguments)
    parameters = inspect.signature(function).parameters
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = {name: value for name, value in offered.items() if takes_all or name in parameters}
    model = userfunction.call(source, function, **taken, **arguments)
    if not isinstance(model, nn.Module):
        raise errors.networks.wrong_result(source, "a torch.nn.Module", model)
    return model
