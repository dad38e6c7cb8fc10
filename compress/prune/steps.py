"""Pruning in steps with recovery between: each step leaves the same share of what the network then has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ... import errors
from .channels import Measure, prune_channels
from .macs import count_macs
from .plan import PruningPlan
from .targets import one_target


def prune_in_steps(
    model: nn.Module,
    example: Tensor,
    *,
    recover: Callable[[nn.Module], nn.Module],
    steps: int,
    keep_macs: float | None = None,
    keep_params: float | None = None,
    keep_latency: float | None = None,
    measure: Measure | None = None,
    **settings: Any,
) -> tuple[nn.Module, tuple[PruningPlan, ...]]:
    """Prune a copy of `model` to a target in `steps` steps; returns the network as last recovered, and the plans.

    example  -- float32 [N,C,H,W] of the size the network will run at.
    recover  -- trains a pruned network, in place or not, and returns it with the same layers; called after each step.
    keep_*   -- one target, a share of what `model` has; as for `prune_channels`.
    measure, settings -- further keywords of `prune_channels`.

    Raises EdgeLatheError as `prune_channels` does, and for impossible settings.
    """
    if steps < 1:
        raise errors.inputs.impossible_setting("steps", steps, "1 or more")
    key, keep = one_target(keep_macs=keep_macs, keep_params=keep_params, keep_latency=keep_latency)
    network, plans = model, []
    for step in range(1, steps + 1):
        share = share_of_step(key, keep, step, steps, whole=model, now=network, example=example, measure=measure)
        pruned, plan = prune_channels(network, example, measure=measure, **settings | {key: share})
        network = recover(pruned)
        plans.append(plan)
    return network, tuple(plans)


def share_of_step(
    key: str,
    keep: float,
    step: int,
    steps: int,
    *,
    whole: nn.Module,
    now: nn.Module,
    example: Tensor,
    measure: Measure | None = None,
) -> float:
    """What step 1..`steps` may keep of the network `now`, so that keep^(step / steps) of `whole` remains.

    The same share in every step, but for what widths that were rounded down gave away before: that is given back, so
    that the last step ends at the target itself. 1 where nothing is left to prune.

    key -- "keep_macs", "keep_params" or, with `measure`, "keep_latency".
    """
    if step == 1:
        return keep ** (1 / steps)
    if key == "keep_latency":
        if measure is None:
            raise errors.prune.nothing_measures(key)
        before, left = measure(whole), measure(now)
    else:
        place = ("keep_macs", "keep_params").index(key)
        before, left = count_macs(whole, example)[place], count_macs(now, example)[place]
    return min(1.0, keep ** (step / steps) * before / left)
