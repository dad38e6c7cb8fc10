"""Groups tried out before anything relies on them: half of the channels are cut, and what is left must compute the
same as the whole network in which nothing reads those channels.

Not only the outputs are compared but what every reader of the channels gives: in a network that was never trained a
block may weigh next to nothing in the outputs (ConvNeXt's layer_scale begins at 1e-6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...models.attention import head_kind
from .apply import Place, all_but, remove, removed_positions, silence
from .plan import Group

TOLERANCE = 1e-4
"""Largest difference, as a share of the largest value, that the order of summation may cause."""


def tried(network: nn.Module, noise: Tensor, groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups again, with a reason for each one whose removal changes more than its readers lose.

    `network` is in eval mode; `noise` is float32 [1,C,H,W].
    """
    candidates = [group for group in groups if not group.reason and group.before > group.blocks]
    failures = _failures(network, noise, candidates)
    sound = [group for group in candidates if group.layer not in failures]
    if failures and (together := _trial(network, noise, sound)):
        failures |= {group.layer: f"{together}, together with others" for group in sound}
    return tuple(replace(group, reason=group.reason or failures.get(group.layer, "")) for group in groups)


def _failures(network: nn.Module, noise: Tensor, groups: Sequence[Group]) -> dict[str, str]:
    """Why groups fail, by their layer, found by halving: nearly always all pass, or few do not."""
    why = _trial(network, noise, groups) if groups else ""
    if not why or len(groups) == 1:
        return {group.layer: why for group in groups if why}
    half = len(groups) // 2
    return _failures(network, noise, groups[:half]) | _failures(network, noise, groups[half:])


def _trial(network: nn.Module, noise: Tensor, groups: Sequence[Group]) -> str:
    """Cut the first half of each group's channels and every fourth of the rest; why that fails, or empty."""
    cut = [replace(group, keep=_some(group)) for group in groups]
    readers = {member.layer for group in cut for member in group.members if member.side in ("in", "heads")}
    try:
        wanted = _run(silence(network, cut, share=True), noise, readers)
        found = _run(remove(network, cut, share=True), noise, readers)
    except Exception as reason:  # whatever a network's forward raises when its widths do not fit
        return f"cutting its channels breaks the forward pass ({str(reason).splitlines()[0]})"
    if found[""][0].shape != wanted[""][0].shape:
        return "cutting its channels changes the shape of the output"
    gone = removed_positions(cut)
    layers = dict(network.named_modules())
    for name, outputs in wanted.items():
        axis = -1 if isinstance(layers[name], nn.Linear) or head_kind(layers[name]) else 1
        for full, narrow in zip(outputs, found[name], strict=True):
            if not _agree(full, narrow, axis, gone.get(Place(name, "out", ""), torch.tensor([], dtype=torch.int64))):
                return "cutting its channels changes what other layers compute"
    return ""


def _run(network: nn.Module, noise: Tensor, readers: set[str]) -> dict[str, list[Tensor]]:
    """What each of `readers` gives, every time that it runs, and under "" the output."""
    given: dict[str, list[Tensor]] = defaultdict(list)
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: given[name].append(_first(output)))
        for name, module in network.named_modules()
        if name in readers
    ]
    try:
        with torch.no_grad():
            given[""] = [network(noise)]
    finally:
        for hook in hooks:
            hook.remove()
    return given


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """nn.MultiheadAttention returns its weights too."""
    return output[0] if isinstance(output, tuple) else output


def _agree(full: Tensor, narrow: Tensor, axis: int, gone: Tensor) -> bool:
    wanted = full.index_select(axis, all_but(full.shape[axis], gone).to(full.device))
    if wanted.shape != narrow.shape:
        return False
    return torch.allclose(narrow, wanted, rtol=0.0, atol=TOLERANCE * float(full.abs().max()))


def _some(group: Group) -> tuple[int, ...]:
    """Not the first half, not every fourth of the rest; of each block other ones, lest blocks could be exchanged."""
    length = group.before // group.blocks
    kept = [channel for channel in range(length) if channel >= length // 2 and channel % 4 != 3] or [length - 1]
    return tuple(
        sorted(block * length + (channel + block) % length for block in range(group.blocks) for channel in kept)
    )
