"""Weight pruning in one shot: the weights of the smallest magnitude become zeros, in a pattern."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ... import errors
from ..prune.apply import network_sha256
from .masks import Masks, mask_sha256
from .names import PatternName, keep_share, read_pattern
from .patterns import SCOPES, Pattern, Scope, find_pattern, masks_from
from .plan import FORMAT, Method, SparsityPlan, WeightSparsity
from .weights import Weight, find_weights


def sparsify(
    model: nn.Module,
    example: Tensor,
    *,
    pattern: str = "unstructured",
    keep: float | None = None,
    scope: Scope = "global",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> tuple[nn.Module, SparsityPlan]:
    """A copy of `model` with zeros in it, and the plan; keywords as for `plan_sparsity`.

    Shapes stay as they are. `hold_zeros` keeps the zeros through training.
    """
    plan, masks = plan_sparsity(
        model, example, pattern=pattern, keep=keep, scope=scope, only=only, ignore=ignore
    )  # fmt: skip
    return apply_masks(model, plan, masks), plan


def plan_sparsity(
    model: nn.Module,
    example: Tensor,
    *,
    pattern: str = "unstructured",
    keep: float | None = None,
    scope: Scope = "global",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> tuple[SparsityPlan, dict[str, Tensor]]:
    """Decide which weights become zeros, and their masks (masks.py); `model` is not touched.

    example -- float32 [N, C, H, W]: tells which layer runs first.
    pattern -- "unstructured", "2:4" or any N:M, "4x1" or any RxC, "kernel", "strided-2" ...; see names.py.
    keep    -- share of the weights of sparse layers that stay; default 0.5, and what N:M and strided patterns say.
    scope   -- "global": weights (or blocks, kernels) of all layers compete; "layer": each layer keeps the same share.
    only    -- layers, or modules that hold them, to sparsify: nothing else, and these even where they are left dense
               by default (weights.py).
    ignore  -- layers, or modules that hold them, that stay dense.

    Raises EdgeLatheError for unknown names, for a share that would leave nothing of a layer, and when no layer can be
    sparsified.
    """
    name, chosen = choose_pattern(pattern, scope)
    share = keep_share(name, keep)
    weights = refused(find_weights(model, example, only, ignore), chosen)
    masks = masks_from(chosen, magnitudes(sparse_of(weights, pattern)), share, scope)
    return plan_from(model, weights, masks, pattern=pattern, scope=scope, method="one-shot", keep=share), masks


def choose_pattern(pattern: str, scope: str) -> tuple[PatternName, Pattern]:
    """Raises EdgeLatheError for an unknown pattern or scope."""
    if scope not in SCOPES:
        raise errors.inputs.unknown_choice("scope", scope, SCOPES)
    name = read_pattern(pattern)
    return name, find_pattern(name)


def refused(weights: Iterable[Weight], pattern: Pattern) -> tuple[Weight, ...]:
    """The weights again, with the reasons of those that cannot have the pattern."""
    return tuple(
        Weight(weight.name, weight.parameter, weight.reason or pattern.refusal(tuple(weight.parameter.shape)))
        for weight in weights
    )


def sparse_of(weights: Iterable[Weight], pattern: str) -> dict[str, nn.Parameter]:
    """The parameters without a reason, by name. Raises EdgeLatheError where there are none."""
    found = {weight.name: weight.parameter for weight in weights if not weight.reason}
    if not found:
        raise errors.sparsify.nothing_to_sparsify(pattern, [f"{each.name}: {each.reason}" for each in weights])
    return found


def magnitudes(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().float().abs() for name, parameter in parameters.items()}


def plan_from(
    model: nn.Module, weights: Iterable[Weight], masks: Masks, *, pattern: str, scope: str, method: Method, keep: float
) -> SparsityPlan:
    entries = []
    for weight in weights:
        size, mask = weight.parameter.numel(), masks.get(weight.name)
        kept, sha256 = (size, "") if mask is None else (int(mask.sum()), mask_sha256(mask))
        entries.append(WeightSparsity(weight.name, size, kept, sha256, weight.reason))
    return SparsityPlan(FORMAT, network_sha256(model), pattern, scope, method, keep, tuple(entries))


def apply_masks(model: nn.Module, plan: SparsityPlan, masks: Masks) -> nn.Module:
    """A copy of `model` whose weights are zero where the masks are False.

    Raises EdgeLatheError when the plan was made for another network, or the masks are not those of the plan.
    """
    if plan.network != network_sha256(model):
        raise errors.sparsify.foreign_plan("its layers have other names or shapes")
    if {weight.weight: weight.mask_sha256 for weight in plan.sparse} != {
        name: mask_sha256(mask) for name, mask in masks.items()
    }:
        raise errors.sparsify.foreign_plan("the masks beside it are not its own")
    sparse = copy.deepcopy(model)
    parameters = dict(sparse.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask, 0)
    return sparse
