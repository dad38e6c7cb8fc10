"""The stages that exchange parts of a network for others."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn

from ..compress.surgery.drop_squeeze_excite import drop_squeeze_excite
from ..compress.surgery.open_shortcuts import open_shortcuts
from ..compress.surgery.plan import SurgeryPlan
from ..compress.surgery.replace_activations import replace_activations
from ..files import write_atomic
from ..networks import Network
from ..recipe_stages import DropSqueezeExcite, OpenShortcuts, ReplaceActivations, stage_keys
from .context import Context, Outcome, several

GATE_IMAGES = 256
"""Training images over which the mean gates of squeeze-and-excitation blocks are measured."""


def run_replace_activations(stage: ReplaceActivations, network: Network, context: Context) -> Outcome:
    model, plan = replace_activations(network.model, network.example(context.data), **stage_keys(stage))
    return _operated(model, plan, f"Replaced {several(len(plan.edits), 'activation')} by {stage.to}", context)


def run_drop_squeeze_excite(stage: DropSqueezeExcite, network: Network, context: Context) -> Outcome:
    typical = context.data.calibration(GATE_IMAGES, context.seed).x
    images = torch.from_numpy(network.preprocess(typical))
    model, plan = drop_squeeze_excite(network.model, images, **stage_keys(stage))
    done = f"Dropped {several(len(plan.edits), 'squeeze-and-excitation block')}"
    return _operated(model, plan, f"{done}, the mean gate of {len(plan.gates)} folded into weights", context)


def run_open_shortcuts(stage: OpenShortcuts, network: Network, context: Context) -> Outcome:
    model, plan = open_shortcuts(network.model, **stage_keys(stage))
    done = f"Wrote {several(len(plan.edits), 'option A shortcut')} as frozen 1 x 1 convolutions"
    return _operated(model, plan, done, context)


def _operated(model: nn.Module, plan: SurgeryPlan, done: str, context: Context) -> Outcome:
    write_atomic(context.folder / "plan.json", plan.to_json(), "the surgery plan")
    summary = f"{done}; {len(plan.left)} left alone ({plan.left[0]})" if plan.left else done
    return Outcome(model, summary, {"replaced": len(plan.edits), "left": [asdict(left) for left in plan.left]})
