"""Channel pruning: which channels go, so that a share of the MACs, parameters or latency remains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...models.attention import head_kind
from .apply import network_sha256, remove
from .criteria import Criterion, find_criterion
from .evidence import Samples
from .importance import channel_importance, scorable
from .latency import Found, find_step
from .macs import layer_costs
from .plan import FORMAT, Group, GroupMultiple, PruningPlan, Scope, Side, Trial, Width
from .probes import measure_multiples
from .scopes import COMPARABLE, SCOPES, Ladder, make_ladder
from .surgery import width
from .targets import KEYS, Prediction, first_within, one_target
from .trace import trace_groups

Measure = Callable[[nn.Module], float]


def prune_channels(
    model: nn.Module,
    example: Tensor,
    *,
    criterion: str | Criterion = "fpgm",
    keep_macs: float | None = None,
    keep_params: float | None = None,
    keep_latency: float | None = None,
    scope: Scope = "uniform",
    multiple: int | Literal["auto"] = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
    samples: Samples | None = None,
    measure: Measure | None = None,
) -> tuple[nn.Module, PruningPlan]:
    """A physically narrower copy of `model`, and its plan; `model` is not touched.

    example      -- float32 [N,C,H,W] of the size the network will run at; only its shape is used.
    criterion    -- one of `CRITERIA`, or a function whose parameter names say what it looks at (see criteria.py).
    keep_macs    -- share of the MACs that may remain, above 0 and at most 1; 0.5 where no target is given. The widest
                    widths within it are found.
    keep_params  -- share of the parameters that may remain, likewise.
    keep_latency -- share of the latency that shall remain, within 5 %; needs `measure`.
    scope        -- which channels are compared: those of each group ("uniform": every group keeps the same share), all
                    ("global"), or those of groups of the same structure ("isomorphic").
    multiple     -- widths are rounded to a multiple of this, e.g. 8 for runtimes that compute in blocks; "auto": what
                    `measure` says suits each group.
    ignore       -- names of layers or modules whose output channels stay.
    seed         -- for criteria that draw, and for the order of measurements.
    samples      -- training images, for criteria that look at what they do in the network.
    measure      -- latency of a network on the target runtime, in any unit; it gets networks that take the same
                    images as `model`.

    Raises EdgeLatheError for two targets at once or one that cannot be reached, for unknown names, and for networks
    that cannot be traced.
    """
    key, keep = one_target(keep_macs=keep_macs, keep_params=keep_params, keep_latency=keep_latency)
    _check(key, scope, multiple, measure)
    name, _ = find_criterion(criterion)
    groups = scorable(model, trace_groups(model, example, ignore), criterion)
    prunable = [group for group in groups if not group.reason]
    if not prunable:
        raise errors.prune.nothing_prunable([f"{group.layer}: {group.reason}" for group in groups])
    importance = channel_importance(model, groups, criterion, samples=samples, seed=seed)
    costs = layer_costs(model, example)
    found: tuple[GroupMultiple, ...] = ()
    if isinstance(multiple, int):
        multiples = {group.layer: multiple for group in prunable}
    else:
        assert measure is not None
        found = measure_multiples(model, example, prunable, costs, measure, seed=seed)
        multiples = {one.layer: one.multiple for one in found}
    ladder = make_ladder(
        model, prunable, importance, scope=scope, multiples=multiples, comparable=name in COMPARABLE,
        one_by_one=key == "keep_latency",
    )  # fmt: skip
    prediction = Prediction(model, costs, groups, ladder.rankings)
    whole = ladder.widths(0)
    latency = None
    if key == "keep_latency":
        assert measure is not None
        latency = _latency(model, groups, ladder, prediction, measure, keep)
        step = latency.step
    else:
        of = prediction.macs if key == "keep_macs" else prediction.parameters
        step = _widest(groups, ladder, of, key, keep)
    chosen = ladder.cut(groups, step)
    pruned = remove(model, chosen)
    widths = ladder.widths(step)
    plan = PruningPlan(
        format=FORMAT,
        network=network_sha256(model),
        criterion=name,
        scope=scope,
        target=KEYS[key],
        keep=keep,
        ratio=sum(widths.values()) / sum(whole.values()),
        multiple=multiple,
        multiples=found,
        groups=chosen,
        widths=layer_widths(model, pruned, chosen),
        macs_before=prediction.macs(whole),
        macs_after=prediction.macs(widths),
        parameters_before=prediction.parameters(whole),
        parameters_after=prediction.parameters(widths),
        latencies=_trials(ladder, prediction, latency) if latency else (),
        latency_before=latency.whole if latency else None,
        latency_after=latency.latency if latency else None,
    )
    return pruned, plan


def plan_channels(
    model: nn.Module,
    example: Tensor,
    *,
    criterion: str | Criterion = "fpgm",
    keep_macs: float | None = None,
    keep_params: float | None = None,
    keep_latency: float | None = None,
    scope: Scope = "uniform",
    multiple: int | Literal["auto"] = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
    samples: Samples | None = None,
    measure: Measure | None = None,
) -> PruningPlan:
    """Decide which channels to remove; keywords and errors as for `prune_channels`."""
    _, plan = prune_channels(
        model, example, criterion=criterion, keep_macs=keep_macs, keep_params=keep_params, keep_latency=keep_latency,
        scope=scope, multiple=multiple, ignore=ignore, seed=seed, samples=samples, measure=measure,
    )  # fmt: skip
    return plan


def _check(key: str, scope: Scope, multiple: int | str, measure: Measure | None) -> None:
    if scope not in SCOPES:
        raise errors.inputs.unknown_choice("scope", scope, SCOPES)
    if multiple != "auto" and not (isinstance(multiple, int) and multiple >= 1):
        raise errors.inputs.impossible_setting("multiple", multiple, 'a whole number from 1, or "auto"')
    if measure is None and key == "keep_latency":
        raise errors.prune.nothing_measures(key)
    if measure is None and multiple == "auto":
        raise errors.prune.nothing_measures('multiple = "auto"')


def _widest(
    groups: Sequence[Group], ladder: Ladder, cost: Callable[[Mapping[str, int]], int], key: str, keep: float
) -> int:
    """The first step of the ladder at which `cost` is at most `keep` times that of the whole network."""
    whole, last = cost(ladder.widths(0)), ladder.last
    step = first_within(last, lambda step: cost(ladder.widths(step)), keep * whole)
    if step is None:
        raise errors.prune.unreachable(key, keep, cost(ladder.widths(last)) / whole, _left(groups))
    return step


def _latency(
    model: nn.Module, groups: Sequence[Group], ladder: Ladder, prediction: Prediction, measure: Measure, keep: float
) -> Found:
    # The same network when a step is measured again: what `measure` made of it can be used again.
    network = cache(lambda step: remove(model, ladder.cut(groups, step)))
    found = find_step(
        lambda step: measure(network(step)),
        lambda step: prediction.macs(ladder.widths(step)),
        ladder.last,
        keep,
    )
    if not found.reachable:
        raise errors.prune.unreachable_latency(keep, found.least / found.whole, _left(groups))
    return found


def _trials(ladder: Ladder, prediction: Prediction, latency: Found) -> tuple[Trial, ...]:
    return tuple(Trial(prediction.macs(ladder.widths(step)), read) for step, read in latency.trials)


def _left(groups: Sequence[Group]) -> list[str]:
    return [f"{group.layer}: {group.reason}" for group in groups if group.reason]


def layer_widths(model: nn.Module, pruned: nn.Module, groups: Sequence[Group]) -> tuple[Width, ...]:
    """Output channels of every convolution and linear layer and the heads of every attention, before and after, with
    why they stayed."""
    reasons: dict[str, str] = {}
    for group in groups:
        for member in group.members:
            if member.side != "in":
                reasons.setdefault(member.layer, group.reason)
    narrowed = dict(pruned.named_modules())
    widths = []
    for name, layer in model.named_modules():
        side: Side = "heads" if head_kind(layer) else "out"
        if side == "heads" or isinstance(layer, (_ConvNd, nn.Linear)):
            before, after = width(layer, side), width(narrowed[name], side)
            reason = reasons.get(name, "no path of channels through it was found") if before == after else ""
            widths.append(Width(name, before, after, reason))
    return tuple(widths)
