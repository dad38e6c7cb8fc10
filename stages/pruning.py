"""The stage that removes channels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compress.prune.channels import prune_channels
from ..compress.prune.criteria import needs_samples
from ..compress.prune.evidence import Samples
from ..compress.prune.plan import PruningPlan
from ..compress.prune.steps import share_of_step
from ..compress.prune.targets import KEYS as TARGETS
from ..compress.prune.targets import one_target
from ..compress.prune.widths import prune_to_widths
from ..data import Dataset, Split
from ..files import write_atomic
from ..latencymeasure import Deployment, latency_against
from ..networks import Network
from ..recipe_stages import DECIDED_BY_WIDTHS, PRUNED_BY_THE_STAGE, PruneChannels, PruneStep, stage_keys
from .context import Context, Outcome
from .norms import renew_norms


def run_prune_channels(stage: PruneChannels, network: Network, context: Context) -> Outcome:
    model, plan = prune(
        stage,
        network,
        context.data,
        context.seed,
        whole=context.whole,
        deployment=context.deployment,
        say=context.say,
    )
    write_atomic(context.folder / "plan.json", plan.to_json(), "the pruning plan")
    renewed = renew_norms(stage, model, network, context)
    macs, parameters = plan.macs_after / plan.macs_before, plan.parameters_after / plan.parameters_before
    widths = tuple(
        {"layer": group.layer, "before": group.before, "after": group.after, "reason": group.reason}
        for group in plan.groups
    )
    step = f"Step {stage.step} of {stage.steps}: removed" if isinstance(stage, PruneStep) else "Removed"
    summary = f"{step} channels by {plan.criterion}: {macs:.1%} of MACs and {parameters:.1%} of parameters remain"
    if plan.latency_before is not None and plan.latency_after is not None:
        summary += f", {plan.latency_after / plan.latency_before:.1%} of the {stage.latency_of} latency"
    if stage.multiple == 1 and any(group.after % 8 for group in plan.groups if not group.reason):
        better = '"auto"' if stage.measures else "8"
        summary += (
            f"; widths that are no multiple of 8 may run slower than wider ones, which multiple = {better} avoids"
        )
    facts: dict[str, Any] = {
        "macs_before": plan.macs_before,
        "macs_after": plan.macs_after,
        "parameters_before": plan.parameters_before,
        "parameters_after": plan.parameters_after,
        **renewed,
    }
    if stage.measures:
        facts["latencies"] = [asdict(trial) for trial in plan.latencies]
        facts["multiples"] = [asdict(found) for found in plan.multiples]
    return Outcome(model, summary, facts, widths=widths)


def prune(
    stage: PruneChannels,
    network: Network,
    data: Dataset,
    seed: int,
    *,
    whole: Network,
    deployment: Deployment,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[nn.Module, PruningPlan]:
    """A pruned copy of a network and its plan, with training images for the criteria that look at them.

    whole      -- the network before the first step, where `stage` is one of several.
    deployment -- where latency is measured, if the stage asks for it.
    """
    keys = {key: value for key, value in stage_keys(stage).items() if key not in (*PRUNED_BY_THE_STAGE, "step")}
    samples = samples_for(stage, network, data, seed)
    example = network.example(data)
    if stage.widths is not None:
        stated = {key: value for key, value in keys.items() if key not in DECIDED_BY_WIDTHS}
        return prune_to_widths(network.model, example, stage.widths, seed=seed, samples=samples, **stated)
    with tempfile.TemporaryDirectory() as folder:
        measure = None
        if stage.measures:
            settings: dict[str, Any] = {"deployment": deployment, "latency_of": stage.latency_of, "seed": seed}
            measure = latency_against(network.model, example, Path(folder), say=say, **settings)
        if isinstance(stage, PruneStep):
            key, keep = one_target(**{key: keys[key] for key in TARGETS if key in keys})
            keys[key] = share_of_step(
                key,
                keep,
                stage.step,
                stage.steps,
                whole=whole.model,
                now=network.model,
                example=example,
                measure=measure,
            )
        return prune_channels(network.model, example, seed=seed, samples=samples, measure=measure, **keys)


def samples_for(stage: PruneChannels, network: Network, data: Dataset, seed: int) -> Samples | None:
    """Training images for the stage's criterion; None where it looks at none, or there are none."""
    if data.train is None or not needs_samples(stage.criterion):
        return None
    return samples_of(data.calibration(stage.images, seed), network)


def samples_of(images: Split, network: Network) -> Samples:
    """Images as `network` wants them, with their labels."""
    return Samples(torch.from_numpy(network.preprocess(images.x)), torch.from_numpy(images.y))
