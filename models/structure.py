"""Changed networks on disk, without pickle: the original's source, modules replaced, widths, the tensors.

structure.json names the network's source and arguments, the modules that were replaced, the attention that has lost
heads and each layer's channel counts; model.safetensors holds the tensors, whose SHA-256 structure.json records.
Rebuilding makes the original, replaces the modules, takes the heads away, narrows the layers and loads the tensors
strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from .. import errors
from ..files import sha256_bytes, write_atomic
from ..userfunction import is_user_function
from . import attention, zoo
from .edits import Edit, edits_of, make_edit, refusal
from .weights import load_tensors

STRUCTURE, TENSORS = "structure.json", "model.safetensors"

Shape = tuple[int, ...]
Width = int | list[int]


class _Kind(NamedTuple):
    """A type of layer that can be narrowed."""

    layer: type[nn.Module]
    widths: tuple[str, ...]
    """The attributes that hold its widths."""
    weight_shape: Callable[[Any], Shape]
    """The shape of its weight that follows from them."""


_KINDS = (
    _Kind(
        nn.modules.conv._ConvTransposeNd,
        ("in_channels", "out_channels", "groups"),
        lambda layer: (layer.in_channels, layer.out_channels // layer.groups, *layer.kernel_size),
    ),
    _Kind(
        nn.modules.conv._ConvNd,
        ("in_channels", "out_channels", "groups"),
        lambda layer: (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size),
    ),
    _Kind(nn.Linear, ("in_features", "out_features"), lambda layer: (layer.out_features, layer.in_features)),
    _Kind(nn.modules.batchnorm._NormBase, ("num_features",), lambda layer: (layer.num_features,)),
    _Kind(nn.LayerNorm, ("normalized_shape",), lambda layer: tuple(layer.normalized_shape)),
    _Kind(nn.GroupNorm, ("num_channels", "num_groups"), lambda layer: (layer.num_channels,)),
    _Kind(nn.PReLU, ("num_parameters",), lambda layer: (layer.num_parameters,)),
)


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is built: `zoo.build(source, **arguments)`."""

    source: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """num_classes, in_channels, and what else the source takes; JSON types only."""


class _Structure(BaseModel):
    """structure.json, checked as strictly as anything a stranger may have written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1, 2, 3]
    """1 has no edits, and 2 no heads."""
    source: str
    arguments: dict[str, Any]
    tensors_sha256: str
    layers: dict[str, dict[str, Width]]
    edits: list[Edit] = []
    heads: dict[str, int] = {}
    """Of attention modules that have lost some, by name."""

    @model_validator(mode="after")
    def _fits_version(self) -> _Structure:
        if self.version == 1 and self.edits:
            raise ValueError("version 1 has no edits")
        if self.version < 3 and self.heads:
            raise ValueError(f"version {self.version} has no heads")
        return self


def save_network(model: nn.Module, spec: NetworkSpec, folder: Path) -> None:
    """Write structure.json and model.safetensors; the same network gives the same bytes.

    Raises EdgeLatheError when they cannot be written.
    """
    # Copies, because the format refuses tensors that share memory (tied weights).
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    data = save(tensors)
    structure = _Structure(
        version=3,
        source=spec.source,
        arguments=spec.arguments,
        tensors_sha256=sha256_bytes(data),
        layers={name: _widths(layer) for name, layer in model.named_modules() if _kind(layer)},
        edits=list(edits_of(model)),
        heads={
            name: attention.heads(each)
            for name, each in attention.attentions(model).items()
            if attention.is_narrow(each)
        },
    )
    write_atomic(folder / TENSORS, data, "the network")
    write_atomic(folder / STRUCTURE, structure.model_dump_json(indent=1) + "\n", "the network")


def load_network(folder: Path, build: Callable[[NetworkSpec], nn.Module] | None = None) -> nn.Module:
    """Rebuild a saved network; its outputs are bit for bit those of the network that was saved.

    A source that is a user's file is not run because structure.json says so: pass `build`, which makes the
    original network from the spec. Raises EdgeLatheError when the files are missing, changed, or do not fit.
    """
    structure = _read_structure(folder)
    tensors = _read_tensors(folder, structure.tensors_sha256)
    spec = NetworkSpec(structure.source, structure.arguments)
    if build is None and is_user_function(spec.source):
        raise errors.networks.structure_needs_code(folder, spec.source)
    with torch.random.fork_rng(devices=[]):
        model = _build(spec, folder) if build is None else build(spec)
    for edit in structure.edits:
        if why := refusal(model, edit):
            raise errors.networks.broken_structure(folder / STRUCTURE, why)
        make_edit(model, edit)
    _take_heads(folder, model, structure.heads)
    _set_widths(folder, model, structure.layers)
    _narrow_tensors(folder, model, tensors)
    load_tensors(model, tensors, strict=True)
    return model


def _kind(layer: nn.Module) -> _Kind | None:
    return next((kind for kind in _KINDS if isinstance(layer, kind.layer)), None)


def _widths(layer: nn.Module) -> dict[str, Width]:
    kind = _kind(layer)
    values = {name: getattr(layer, name) for name in (kind.widths if kind else ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _read_structure(folder: Path) -> _Structure:
    path = folder / STRUCTURE
    try:
        return _Structure.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise errors.inputs.missing_file("the network", path) from None
    except ValidationError as reason:
        first = reason.errors()[0]
        raise errors.networks.broken_structure(
            path, f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        ) from reason


def _read_tensors(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / TENSORS
    if not path.is_file():
        raise errors.inputs.missing_file("the network", path)
    data = path.read_bytes()
    if sha256_bytes(data) != sha256:
        raise errors.networks.broken_structure(path, f"its SHA-256 is not the one in {STRUCTURE}")
    try:
        return load(data)
    except (SafetensorError, ValueError) as reason:
        raise errors.networks.broken_structure(path, "it is no safetensors file") from reason


def _build(spec: NetworkSpec, folder: Path) -> nn.Module:
    try:
        return zoo.build(spec.source, **spec.arguments)
    except TypeError as reason:
        raise errors.networks.broken_structure(folder / STRUCTURE, f"{spec.source} lacks arguments") from reason


def _take_heads(folder: Path, model: nn.Module, recorded: dict[str, int]) -> None:
    modules = attention.attentions(model)
    for name, count in recorded.items():
        if name not in modules:
            raise errors.networks.broken_structure(folder / STRUCTURE, f"{name} is no attention whose heads are known")
        if why := attention.refusal(modules[name], name):
            raise errors.networks.broken_structure(folder / STRUCTURE, why)
        before = attention.heads(modules[name])
        if not 0 < count <= before:
            why = f"{name} has {count} heads, which cannot be cut from {before}"
            raise errors.networks.broken_structure(folder / STRUCTURE, why)
        attention.keep_heads(modules[name], torch.arange(count))


def _set_widths(folder: Path, model: nn.Module, recorded: dict[str, dict[str, Width]]) -> None:
    layers = {name: layer for name, layer in model.named_modules() if _kind(layer)}
    if unequal := layers.keys() ^ recorded.keys():
        raise errors.networks.broken_structure(
            folder / STRUCTURE, f"it and the network differ in the layer {min(unequal)}"
        )
    for name, layer in layers.items():
        original = _widths(layer)
        if recorded[name].keys() != original.keys():
            raise errors.networks.broken_structure(
                folder / STRUCTURE, f"the widths of {name} are not {', '.join(original)}"
            )
        for attribute, width in recorded[name].items():
            if not _is_narrower(width, original[attribute]):
                why = f"{attribute} of {name} is {width}, which cannot be cut from {original[attribute]}"
                raise errors.networks.broken_structure(folder / STRUCTURE, why)
            setattr(layer, attribute, tuple(width) if isinstance(width, list) else width)


def _is_narrower(width: Width, original: Width) -> bool:
    if isinstance(width, list) and isinstance(original, list):
        return len(width) == len(original) and all(map(_is_narrower, width, original))
    return isinstance(width, int) and isinstance(original, int) and 0 < width <= original


def _narrow_tensors(folder: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give every parameter and buffer the shape and dtype of its tensor; the values are loaded afterwards."""
    if unequal := model.state_dict().keys() ^ tensors.keys():
        raise errors.networks.broken_structure(
            folder / TENSORS, f"it and the network differ in the tensor {min(unequal)}"
        )
    whole = {f"{name}.{inner}" for name, each in attention.attentions(model).items() for inner in each.state_dict()}
    replaced: dict[int, nn.Parameter | Tensor] = {}  # by what they replace, so that tied weights stay tied
    for name, tensor in sorted(tensors.items()):
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        original = getattr(module, attribute)
        _check_shape(folder, name, module, attribute, original, tensor, whole)
        if id(original) not in replaced:
            empty = torch.empty_like(tensor)
            is_parameter = isinstance(original, nn.Parameter)
            replaced[id(original)] = nn.Parameter(empty, original.requires_grad) if is_parameter else empty
        setattr(module, attribute, replaced[id(original)])


def _check_shape(
    folder: Path,
    name: str,
    module: nn.Module,
    attribute: str,
    original: Tensor,
    tensor: Tensor,
    whole: Collection[str],
) -> None:
    """`whole` names the tensors that have their shape already."""
    before, after, kind = list(original.shape), list(tensor.shape), _kind(module)
    if not _is_narrower(after, before):
        raise errors.networks.broken_structure(
            folder / TENSORS, f"{name} is {after}, which cannot be cut from {before}"
        )
    if kind is not None and attribute == "weight" and tensor.shape != kind.weight_shape(module):
        wanted = list(kind.weight_shape(module))
        raise errors.networks.broken_structure(
            folder / TENSORS, f"{name} is {after} and not {wanted} as in {STRUCTURE}"
        )
    if name in whole and after != before:
        why = f"{name} is {after} and not {before} as the heads in {STRUCTURE} ask for"
        raise errors.networks.broken_structure(folder / TENSORS, why)
    if kind is None and after != before and type(module).__module__.startswith("torch.nn."):
        raise errors.networks.broken_structure(
            folder / TENSORS, f"{name} cannot be narrowed: its layer's widths are unknown"
        )
