"""Squeeze-and-excitation blocks out of a network (Hu et al. 2018 put them in), as Lite variants are built.

A block weighs each channel by its mean over the image. On small devices its pooling, two tiny convolutions and
product cost more time than their MACs tell. Afterwards the network has to be trained again, best by distillation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ... import errors
from ...models.edits import Edit
from ...models.squeeze_excite import is_squeeze_excite
from .mean_gates import mean_gates
from .plan import LeftAlone, SurgeryPlan, apply_plan, check_names, holds


def drop_squeeze_excite(
    model: nn.Module, images: Tensor | None = None, *, ignore: Sequence[str] = ()
) -> tuple[nn.Module, SurgeryPlan]:
    """A copy of `model` without its blocks, and the plan of it. `model` is left as it was."""
    plan = plan_drop(model, images, ignore=ignore)
    return apply_plan(model, plan), plan


def plan_drop(model: nn.Module, images: Tensor | None = None, *, ignore: Sequence[str] = ()) -> SurgeryPlan:
    """Which squeeze-and-excitation blocks go; they are recognised by what they compute (`is_squeeze_excite`).

    images -- float32 [N,C,H,W], typical ones: what a block does to each channel on average over them goes into the
              weights of the convolution behind it (`mean_gates`). None leaves the weights as they are.
    ignore -- names of blocks, or of modules that hold them, that stay.

    Raises EdgeLatheError for unknown names, names that hold no block, and networks without a block to drop.
    """
    blocks = list(_blocks(model))
    check_names("ignore", ignore, model, blocks, "squeeze-and-excitation block")
    kept = [name for name in blocks if any(holds(ignored, name) for ignored in ignore)]
    edits = tuple(Edit(name, "identity") for name in blocks if name not in kept)
    if not edits:
        raise errors.surgery.nothing_to_drop(len(kept))
    left = tuple(LeftAlone(name, "squeeze-excite", "it is named in ignore") for name in kept)
    gates = () if images is None else mean_gates(model, [edit.module for edit in edits], images)
    return SurgeryPlan(edits, left, gates)


def _blocks(model: nn.Module, prefix: str = "") -> Iterator[str]:
    for name, module in model._modules.items():
        if module is None:
            continue
        path = f"{prefix}{name}"
        if is_squeeze_excite(module):
            yield path
        else:
            yield from _blocks(module, f"{path}.")
