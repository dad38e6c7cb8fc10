"""Attention within a network that is pruned: its heads are groups, and nothing is followed through it.

Torch-Pruning's dependency graph takes the reshapes inside attention for something else, and gets lost among them (Swin
keeps it busy for ever). The same goes for torchvision's patch merging, which joins the channels of neighbouring pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ...models.attention import head_dim, head_kind, heads
from .plan import Group, Member
from .surgery import refusal, width


def stays_whole(module: nn.Module) -> str:
    """In words, what happens to the layers of a module through which channels are not followed; empty for others."""
    if head_kind(module):
        return "which loses whole heads or nothing"
    if type(module).__module__ == "torchvision.models.swin_transformer" and "PatchMerging" in type(module).__name__:
        return "which joins the channels of neighbouring pixels"
    return ""


def head_groups(model: nn.Module, ignore: Sequence[str]) -> Iterator[Group]:
    """One group for each attention module, whose channels are its heads; one for each layer inside of those and of
    other modules that stay whole, which says so."""
    layers = dict(model.named_modules())
    for owner, module in layers.items():
        what, kind = stays_whole(module), type(module).__name__
        for name, layer in module.named_modules() if what else ():
            if isinstance(layer, (_ConvNd, nn.Linear)):
                channels = width(layer, "out")
                member = Member(f"{owner}.{name}", "out", 0, channels, 0, 1)
                why = f"it is part of {owner} ({kind}), {what}"
                yield Group(member.layer, channels, tuple(range(channels)), (member,), why)
        if head_kind(module):
            ignored = any(f"{owner}.".startswith(f"{name}.") or name.startswith(f"{owner}.") for name in ignore)
            why = f"{owner} is named in ignore" if ignored else refusal(module, owner)
            count = heads(module)
            member = Member(owner, "heads", 0, count, 0, 1)
            yield Group(owner, count, tuple(range(count)), (member,), why, unit=head_dim(module))
