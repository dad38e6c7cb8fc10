"""Importance of the channels of every group: evidence gathered, layers scored, their scores put together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ... import errors
from .criteria import FROM_SAMPLES, Criterion, evidence_of, find_criterion
from .evidence import Samples, gather_gradients
from .makers import makers, norm_scales, per_channel
from .maps import average_over_maps
from .plan import Group
from .surgery import filters


def channel_importance(
    model: nn.Module, groups: Sequence[Group], criterion: str | Criterion, *, samples: Samples | None, seed: int
) -> dict[str, Tensor]:
    """Importance, float32 [before], of the channels of each group that has no reason to be left alone.

    groups  -- of `trace_groups`, seen by `scorable`; the result is by their `layer`.
    samples -- training images, for criteria that look at gradients or feature maps.
    seed    -- for criteria that draw; `model` is not touched.

    Raises EdgeLatheError for missing samples, samples that the network cannot take, and a criterion that cannot be
    called or does not answer one finite number per channel.
    """
    name, score = find_criterion(criterion)
    wanted = evidence_of(criterion)
    if samples is None and wanted & FROM_SAMPLES:
        raise errors.prune.samples_needed(name)
    layers = dict(model.named_modules())
    made = {group.layer: makers(group, layers) for group in groups if not group.reason}
    names = [layer for layer in layers if any(layer in found for found in made.values())]
    evidence = _evidence(model, groups, names, wanted, samples, seed)

    def scored(layer: str, **maps: Tensor) -> Tensor:
        importance = score(**{what: evidence[layer][what] for what in wanted - {"maps"}}, **maps)
        channels = len(filters(layers[layer]))
        if not isinstance(importance, Tensor) or importance.shape != (channels,):
            raise errors.prune.bad_importance(layer, channels)
        if not bool(torch.isfinite(importance).all()):
            raise errors.prune.bad_importance(layer, channels)
        return importance.detach().float()

    if samples is not None and "maps" in wanted:
        scores = average_over_maps(model, list(evidence), samples, lambda layer, maps: scored(layer, maps=maps))
    else:
        scores = {layer: scored(layer) for layer in evidence}
    importance = {}
    for group in groups:
        if not group.reason:
            runs = {layer: runs for layer, runs in made[group.layer].items() if layer in scores}
            importance[group.layer] = group_importance(
                [per_channel(scores[layer], runs[layer], group.before) for layer in runs]
            )
    return importance


def group_importance(scores: Sequence[Tensor]) -> Tensor:
    """Importance [channels] of channels that several layers make, from what each layer says; NaN where one is silent.

    Each layer's scores are divided by their mean, so that a layer of large weights does not outvote the others, and
    averaged over the layers; times the mean of what they were divided by, so that groups remain comparable.
    """
    sizes = torch.stack([score.abs().nanmean() for score in scores])
    votes = torch.stack([score / size.clamp_min(1e-12) for score, size in zip(scores, sizes, strict=True)])
    return votes.nanmean(dim=0) * sizes.mean()


def scorable(model: nn.Module, groups: Sequence[Group], criterion: str | Criterion) -> tuple[Group, ...]:
    """The groups again, with a reason for each one in which the criterion finds nothing to look at.

    Raises EdgeLatheError when that leaves nothing of what could be pruned otherwise.
    """
    if "maps" in evidence_of(criterion):
        groups = [group if group.reason else replace(group, reason=_no_maps(group, criterion)) for group in groups]
    if "norm_scale" not in evidence_of(criterion):
        return tuple(groups)
    layers = dict(model.named_modules())
    scales = norm_scales(model, groups)
    name = find_criterion(criterion)[0]
    why = f"{name} looks at the scales of batch norms, and none follows the layers that make its channels"
    marked = tuple(
        group if group.reason or scales.keys() & makers(group, layers).keys() else replace(group, reason=why)
        for group in groups
    )
    if all(group.reason for group in marked) and not all(group.reason for group in groups):
        raise errors.prune.no_batch_norms(name)
    return marked


def _no_maps(group: Group, criterion: str | Criterion) -> str:
    if all(member.side != "heads" for member in group.members):
        return ""
    return f"{find_criterion(criterion)[0]} looks at feature maps, and attention gives none of a single head"


def _evidence(
    model: nn.Module,
    groups: Sequence[Group],
    names: Sequence[str],
    wanted: frozenset[str],
    samples: Samples | None,
    seed: int,
) -> dict[str, dict[str, Tensor | int]]:
    """All that is wanted but maps, by layer; without the layers that have no batch norm where its scale is wanted."""
    evidence: dict[str, dict[str, Tensor | int]] = {
        name: {"filters": filters(model.get_submodule(name)), "seed": _layer_seed(seed, name)} for name in names
    }
    if "norm_scale" in wanted:
        scales = norm_scales(model, groups)
        evidence = {name: {**known, "norm_scale": scales[name]} for name, known in evidence.items() if name in scales}
    if samples is not None and wanted & {"gradients", "squared_gradients"}:
        for name, found in gather_gradients(model, list(evidence), samples).items():
            evidence[name] |= {"gradients": found.mean, "squared_gradients": found.squared}
    return evidence


def _layer_seed(seed: int, layer: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {layer}".encode()).digest()[:7], "little")
