"""Which channels hang together: the groups of a network, each prunable or with the reason why not.

Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph) follows channels through additions,
concatenations, flattening and depthwise convolutions. It does not see everything, so what it says is tried
out: half the channels are cut, and the result must equal the whole network in which nothing reads those
channels. A group that fails is left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...models.resnet import OptionAShortcut
from .apply import remove, silence
from .plan import Group, Member, Side
from .surgery import refusal, sides

_TOLERANCE = 1e-4
"""Largest difference, as a share of the largest output, that the order of summation may cause."""


def trace_groups(model: nn.Module, example: Tensor, ignore: Sequence[str]) -> tuple[Group, ...]:
    """All groups of `model` in the order of its layers, keeping every channel; `model` is left as it was.

    example -- float32 [N,C,H,W], for its shape.
    ignore  -- layers (or modules that hold layers) whose output channels must stay.
    Raises EdgeLatheError for unknown names in `ignore` and for a network that cannot be traced.
    """
    names = [name for name, _ in model.named_modules() if name]
    for name in ignore:
        if name not in names:
            raise errors.inputs.unknown_choice("layer in ignore", name, names)
    network = copy.deepcopy(model).eval().requires_grad_(True)
    noise = torch.randn(example[:1].shape, generator=torch.Generator().manual_seed(0))
    _check_runs(network, noise)
    order = {name: place for place, name in enumerate(names)}
    groups = sorted(_read_graph(network, noise, order, ignore), key=lambda group: order[group.layer])
    return _tried(network, noise, groups)


def _check_runs(network: nn.Module, noise: Tensor) -> None:
    try:
        with torch.no_grad():
            output = network(noise)
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(noise.shape[1:], str(reason).splitlines()[0]) from reason
    if not isinstance(output, Tensor) or not bool(torch.isfinite(output).all()):
        raise errors.prune.cannot_trace("it does not return one tensor of finite numbers")


def _read_graph(network: nn.Module, noise: Tensor, order: dict[str, int], ignore: Sequence[str]) -> Iterable[Group]:
    shortcuts = _ShortcutOperations(network)
    graph = tp.DependencyGraph()
    try:
        with torch.enable_grad():
            # A list: a bare tensor would be taken apart along its first axis.
            graph.build_dependency(network, [noise], verbose=False)
            found = list(graph.get_all_groups(root_module_types=(_ConvNd, nn.Linear)))
    except Exception as reason:  # of a third party, and of any kind
        raise errors.prune.cannot_trace(f"{type(reason).__name__}: {reason}") from reason
    finally:
        shortcuts.detach()
    names = {module: name for name, module in network.named_modules()}
    for group in found:
        yield _read_group(group, names, order, ignore, shortcuts)


def _read_group(
    group: tp.dependency.Group,
    names: dict[nn.Module, str],
    order: dict[str, int],
    ignore: Sequence[str],
    shortcuts: _ShortcutOperations,
) -> Group:
    root = names[group[0].dep.target.module]
    before = len(group[0].idxs)
    members: list[Member] = []
    reasons: list[str] = []
    for item in group:
        node = item.dep.target
        module = node.module
        if isinstance(module, nn.Parameter):
            reasons.append("a bare parameter of the network is tied to its channels")
        elif shortcut := shortcuts.holding(node.grad_fn):
            reasons.append(f"the option A shortcut {shortcut} joins its channels to others by position")
        elif node.type == tp.ops.OPTYPE.OUTPUT:
            reasons.append("its channels are the network's outputs")
        elif module in names:
            side = _side(module, item.dep.handler.__name__)
            if side != "in" and any(f"{names[module]}.".startswith(f"{name}.") for name in ignore):
                reasons.insert(0, f"{names[module]} is named in ignore")
            if why := refusal(module, names[module]):
                reasons.append(why)
            if side != "in" and not node.outputs:
                reasons.append("its channels are the network's outputs")
            if item.root_idxs is None or None in item.root_idxs:
                reasons.append(f"its channels reach {names[module]} in no order that can be followed")
            elif not (isinstance(module, nn.PReLU) and module.num_parameters == 1):
                members += _runs(names[module], side, item.idxs, item.root_idxs)
    if not reasons and not any(member.side == "in" for member in members):
        reasons.append("no layer reads its channels")
    first = min(
        (member.layer for member in members if member.side == "out" and member.whole(before)),
        key=lambda name: order[name],
        default=root,
    )
    return Group(first, before, tuple(range(before)), tuple(members), reasons[0] if reasons else "")


def _side(module: nn.Module, handler: str) -> Side:
    if sides(module) == ("channels",):
        return "channels"
    return "out" if handler == "prune_out_channels" else "in"


def _runs(layer: str, side: Side, positions: Sequence[int], channels: Sequence[int]) -> list[Member]:
    """Write the map from positions of a layer to channels of the group as few runs as possible."""
    stretches: list[list[int]] = []  # channel, start, length
    for position, channel in sorted(zip(positions, channels, strict=True)):
        last = stretches[-1] if stretches else None
        if last and channel == last[0] and position == last[1] + last[2]:
            last[2] += 1
        else:
            stretches.append([channel, position, 1])
    members: list[Member] = []
    for channel, start, length in stretches:
        last_run = members[-1] if members else None
        if (
            last_run
            and length == last_run.repeat
            and channel == last_run.first + last_run.count
            and start == last_run.start + last_run.count * length
        ):
            members[-1] = replace(last_run, count=last_run.count + 1)
        else:
            members.append(Member(layer, side, channel, 1, start, length))
    return members


class _ShortcutOperations:
    """The autograd operations inside each OptionAShortcut of one forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self._inside: dict[object, str] = {}
        self._hooks = [
            module.register_forward_hook(self._recorder(name))
            for name, module in network.named_modules()
            if isinstance(module, OptionAShortcut)
        ]

    def _recorder(self, name: str) -> _Recorder:
        return _Recorder(name, self._inside)

    def holding(self, operation: object) -> str:
        """Name of the shortcut that `operation` belongs to; empty when to none."""
        return self._inside.get(operation, "")

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()


class _Recorder:
    def __init__(self, name: str, inside: dict[object, str]) -> None:
        self.name, self.inside = name, inside

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        waiting = [output.grad_fn]
        while waiting:
            operation = waiting.pop()
            if operation is not None and operation is not inputs[0].grad_fn and operation not in self.inside:
                self.inside[operation] = self.name
                waiting += [before for before, _ in operation.next_functions]


def _tried(network: nn.Module, noise: Tensor, groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups again, with a reason for each one whose removal changes more than its readers lose."""
    candidates = [group for group in groups if not group.reason and group.before > 1]
    if not _trial(network, noise, candidates):
        return tuple(groups)
    failures = {group.layer: _trial(network, noise, [group]) for group in candidates}
    return tuple(replace(group, reason=group.reason or failures.get(group.layer, "")) for group in groups)


def _trial(network: nn.Module, noise: Tensor, groups: Sequence[Group]) -> str:
    """Cut the first half of each group's channels and every fourth of the rest; why that fails, or empty."""
    cut = [replace(group, keep=_some(group.before)) for group in groups]
    with torch.no_grad():
        try:
            found = remove(network, cut)(noise)
        except Exception as reason:  # whatever a network's forward raises when its widths do not fit
            return f"cutting its channels breaks the forward pass ({str(reason).splitlines()[0]})"
        wanted = silence(network, cut)(noise)
    if found.shape != wanted.shape:
        return "cutting its channels changes the shape of the output"
    if not torch.allclose(found, wanted, rtol=0.0, atol=_TOLERANCE * float(wanted.abs().max())):
        return "cutting its channels changes what other layers compute"
    return ""


def _some(before: int) -> tuple[int, ...]:
    kept = [channel for channel in range(before) if channel >= before // 2 and channel % 4 != 3]
    return tuple(kept) or (before - 1,)
