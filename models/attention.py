"""Attention that can lose heads: which modules are attention, where a head lies in their tensors, what runs afterwards.

A head is head_dim rows of each of query, key and value, as many columns of the output projection, and its share of the
relative position bias where there is one. The width of what goes in and comes out stays, and so does head_dim. The
forwards of PyTorch and torchvision take head_dim to be that width over the number of heads, so a module that has lost
heads computes with a forward of its own; the names of its tensors stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import errors
from .heads import HeadKind, HeadTensor, Met


class NarrowMultiheadAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention with fewer heads than embed_dim / head_dim; takes no masks and returns no weights."""

    # Keeps nn.TransformerEncoderLayer from a fused kernel that reads the tensors as those of embed_dim / num_heads.
    _qkv_same_embed_dim = False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: ARG002
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: ARG002
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """query [N, L, embed_dim], key and value [N, S, embed_dim] -> ([N, L, embed_dim], None); without N where
        there is one sample, and with L, S first unless `batch_first`."""
        if key_padding_mask is not None or attn_mask is not None or is_causal:
            raise errors.networks.masked_narrow_attention()
        swap = query.ndim == 3 and not self.batch_first
        projected = (
            F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            if query is key is value
            else _project((query, key, value), self.in_proj_weight, self.in_proj_bias)
        )
        q, k, v = (
            (part.transpose(0, 1) if swap else part).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for part in projected
        )
        # Not F.scaled_dot_product_attention: its ONNX form reads shapes at run time and copies the keys.
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        attended = F.dropout(weights, self.dropout, self.training) @ v
        merged = self.out_proj(attended.transpose(-3, -2).flatten(-2))
        return (merged.transpose(0, 1) if swap else merged), None


_SETTLED = "settled_position_bias"


def _project(sources: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    biases: Sequence[Tensor | None] = (None,) * 3 if bias is None else bias.chunk(3)
    return [F.linear(*each) for each in zip(sources, weight.chunk(3), biases, strict=True)]


def _meet_in_sequences(
    module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
) -> Met:
    keys = key.shape[1 if module.batch_first and key.ndim == 3 else 0]
    return Met(query.numel() + key.numel() + value.numel(), query[..., 0].numel(), keys)


_MULTIHEAD = HeadKind(
    heads="num_heads",
    makes=HeadTensor("", "in_proj_weight", 0, 3),
    reads=HeadTensor("out_proj", "weight", 1, 1),
    others=(HeadTensor("", "in_proj_bias", 0, 3),),
    narrow=NarrowMultiheadAttention,
    meets=_meet_in_sequences,
)
_KINDS: dict[type[nn.Module], HeadKind] = {
    nn.MultiheadAttention: _MULTIHEAD,
    NarrowMultiheadAttention: _MULTIHEAD,
}


def head_kind(module: nn.Module) -> HeadKind | None:
    """What is known of `module` as attention; None where it is something else, a subclass with its own forward too."""
    # A module cannot be of a type that was never imported, and importing torchvision takes a second.
    if type(module) not in _KINDS and "torchvision.models.swin_transformer" in sys.modules:
        from .torchvision_attention import KINDS

        _KINDS.update(KINDS)
    return _KINDS.get(type(module))


def is_narrow(module: nn.Module) -> bool:
    """Whether an attention module has lost heads."""
    return type(module) is _known(module).narrow


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """The attention modules of a network, by name."""
    return {name: module for name, module in model.named_modules() if head_kind(module)}


def refusal(module: nn.Module, name: str) -> str:
    """Why heads of this attention cannot be cut; empty when they can."""
    if any(parametrize.is_parametrized(part) for part in module.modules()):
        return f"the weights of {name} are computed from others (parametrized)"
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None:
            return f"{name} projects keys or values of another width"
        if module.bias_k is not None or module.add_zero_attn:
            return f"{name} attends to more than its inputs (add_bias_kv or add_zero_attn)"
    return ""


def heads(module: nn.Module) -> int:
    """Heads of an attention module."""
    return int(getattr(module, _known(module).heads))


def head_dim(module: nn.Module) -> int:
    """Features of a head."""
    return _tensor(module, _known(module).reads).shape[1] // heads(module)


def embed_dim(module: nn.Module) -> int:
    """Features of what an attention module takes and gives."""
    return _tensor(module, _known(module).reads).shape[0]


def head_rows(module: nn.Module, values: Tensor | None = None) -> Tensor:
    """The weights that make query, key and value, or `values` of their shape: float32 [heads, 3*head_dim*embed_dim]."""
    weight = makes(module) if values is None else values
    return weight.detach().float().unflatten(0, (3, heads(module), -1)).transpose(0, 1).flatten(1)


def makes(module: nn.Module) -> nn.Parameter:
    """The weight that makes query, key and value, one behind the other."""
    weight = _tensor(module, _known(module).makes)
    assert isinstance(weight, nn.Parameter)
    return weight


def attention_macs(module: nn.Module, *inputs: Any, **keywords: Any) -> int:
    """Multiply-accumulates of one call: the projections, query by key, and what is attended to by value."""
    met = _known(module).meets(module, *inputs, **keywords)
    projections = met.read + met.queries * embed_dim(module)
    return heads(module) * head_dim(module) * (projections + 2 * met.queries * met.keys)


def parameters_of_heads(module: nn.Module) -> int:
    """Parameters that belong to heads; each head has the same number of them."""
    return sum(tensor.numel() for tensor in head_tensors(module).values())


def keep_heads(module: nn.Module, keep: Tensor) -> None:
    """Keep the heads `keep` (int64, ascending) of an attention module, in place.

    Where heads go, the module becomes one of its kind's `narrow` type, under every name that it has in the network.
    """
    if len(keep) == heads(module):
        return
    kind = _known(module)
    for place, tensor in _present(module):
        by_head = tensor.detach().unflatten(place.axis, (place.parts, heads(module), -1))
        kept = by_head.index_select(place.axis + 1, keep.to(tensor.device)).flatten(place.axis, place.axis + 2)
        _replace(module, place, kept.contiguous())
    setattr(module, kind.heads, len(keep))
    module.__class__ = kind.narrow


def silence_heads(module: nn.Module, removed: Tensor) -> None:
    """Let nothing read the heads `removed` (int64) of an attention module, in place; its shapes stay."""
    reads = _known(module).reads
    weight = _tensor(module, reads).detach().unflatten(1, (heads(module), -1))
    _replace(module, reads, weight.index_fill(1, removed.to(weight.device), 0.0).flatten(1))


def head_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of an attention module that have a share of each head, by their names inside it."""
    return {f"{place.owner}.{place.name}".removeprefix("."): tensor for place, tensor in _present(module)}


def settle_biases(model: nn.Module) -> None:
    """Make constants of relative position biases, in place: what they are computed from does not depend on the input.

    For networks that learn no more. Such attention takes the forward of its kind's `narrow` type too, whose masks are
    constants.
    """
    for module in attentions(model).values():
        kind = _known(module)
        if kind.bias:
            with torch.no_grad():
                bias = getattr(module, kind.bias)()
            module.__class__ = kind.narrow
            module.register_buffer(_SETTLED, bias, persistent=False)
            vars(module)[kind.bias] = partial(getattr, module, _SETTLED)


def _known(module: nn.Module) -> HeadKind:
    kind = head_kind(module)
    assert kind is not None, f"{type(module).__name__} is no attention that is known"
    return kind


def _present(module: nn.Module) -> Iterator[tuple[HeadTensor, Tensor]]:
    for place in _known(module).tensors:
        tensor = getattr(module.get_submodule(place.owner), place.name, None)
        if tensor is not None:
            yield place, tensor


def _tensor(module: nn.Module, place: HeadTensor) -> Tensor:
    tensor: Any = getattr(module.get_submodule(place.owner), place.name)
    return tensor


def _replace(module: nn.Module, place: HeadTensor, values: Tensor) -> None:
    owner = module.get_submodule(place.owner)
    old = getattr(owner, place.name)
    setattr(owner, place.name, nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values)
    if isinstance(owner, nn.Linear):
        owner.out_features, owner.in_features = owner.weight.shape
