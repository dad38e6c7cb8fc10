"""The stages that set weights to zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..compress.sparsify.masks import zeros_of
from ..compress.sparsify.plan import SparsityPlan
from ..compress.sparsify.sparsify import apply_masks, plan_sparsity
from ..compress.sparsify.sparsify_gradually import sparsify_gradually
from ..files import write_atomic
from ..networks import Network
from ..recipe_stages import SPARSIFIED_BY_THE_STAGE, Sparsify, SparsifyGradually, stage_keys
from ..runfolder import SCRATCH
from .context import Context, Outcome
from .norms import renew_norms
from .training import trained


def run_sparsify(stage: Sparsify, network: Network, context: Context) -> Outcome:
    keys = {key: value for key, value in stage_keys(stage).items() if key not in SPARSIFIED_BY_THE_STAGE}
    plan, masks = plan_sparsity(network.model, network.example(context.data), **keys)
    model = apply_masks(network.model, plan, masks)
    write_atomic(context.folder / "plan.json", plan.to_json(), "the sparsity plan")
    facts = _sparsity_facts(plan) | renew_norms(stage, model, network, context)
    return Outcome(model, _sparsified(plan), facts, masks=_masks(model, plan, network))


def run_sparsify_gradually(stage: SparsifyGradually, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result, plan = sparsify_gradually(
        model,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        state=context.folder / SCRATCH,
        progress=context.progress,
        **stage_keys(stage),
    )
    write_atomic(context.folder / "plan.json", plan.to_json(), "the sparsity plan")
    outcome = trained(model, result, f"{_sparsified(plan)}; trained", context.data)
    return replace(outcome, facts=outcome.facts | _sparsity_facts(plan), masks=_masks(model, plan, network))


def _masks(model: nn.Module, plan: SparsityPlan, before: Network) -> dict[str, torch.Tensor]:
    """All zeros of a sparsified network: those of the plan, and those that it was sparsified with before."""
    sparse = {weight.weight for weight in plan.sparse} | set(before.masks)
    return {name: mask for name, mask in zeros_of(model).items() if name in sparse}


def _sparsified(plan: SparsityPlan) -> str:
    return (
        f"Sparsified {len(plan.sparse)} of {len(plan.weights)} layers ({plan.pattern}, {plan.method}): "
        f"{plan.kept_share:.1%} of all weights stay"
    )


def _sparsity_facts(plan: SparsityPlan) -> dict[str, Any]:
    weights = [
        {"weight": weight.weight, "size": weight.size, "kept": weight.kept, "reason": weight.reason}
        for weight in plan.weights
    ]
    return {"kept_share": plan.kept_share, "weights": weights}
