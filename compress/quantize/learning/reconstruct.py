"""Learned rounding: weights and biases chosen by what they do to outputs, not by how near they are to the float ones.

    layers    each layer answers as its float twin does (AdaRound, Nagel et al. 2020)
    blocks    each stretch between two cuts of the graph does: a residual block, mostly (BRECQ, Li et al. 2021)
    network   the whole network does; scales are learned too (network_reconstruction.py)

Inputs come from the network as it is quantized so far, targets from the float one, so that later layers make up for
what earlier ones lose. Labels are not used. Only this needs PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import onnx_ir as ir
import torch

from .... import errors
from ...threads import using_threads
from ..calibration.imagechunks import Images, as_sliceable, check_images
from ..placing.placement import Placement
from ..plan import QuantPlan
from .local_reconstruction import Progress, first_images, reconstruct_parts
from .network_reconstruction import reconstruct_network

Granularity = Literal["layers", "blocks", "network"]

STEPS: dict[Granularity, int] = {"layers": 150, "blocks": 200, "network": 300}
"""Of each layer, of each block, in all: what a user gets who asks for nothing else."""


@dataclass(frozen=True)
class Reconstructed:
    prepared: ir.Model
    """Its weights lie on the grid of `plan`: nearest rounding in `apply_plan` gives the learned codes."""
    plan: QuantPlan
    images: int
    """How many were learned from."""


def reconstruct(
    prepared: ir.Model,
    placement: Placement,
    plan: QuantPlan,
    images: Images,
    *,
    granularity: Granularity,
    steps: int | None = None,
    images_used: int = 256,
    flip: bool = True,
    threads: int | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Reconstructed:
    """Learn the codes of all int8 weights, and the biases.

    `steps` defaults to STEPS. "layers" and "blocks" learn on the first `images_used` of `images`, or as many as fit
    in CACHE_BYTES with their activations; "network" learns on cuts of all of them and, with `flip`, on their mirror
    images. `on_progress(done, total)` counts steps. The result depends on `seed` and, to the last bits, on
    `threads`. Nothing is written, so that stopping it early leaves nothing behind.

    Raises EdgeLatheError for unknown granularities, unusable images and operators that PyTorch has no counterpart of.
    """
    if granularity not in get_args(Granularity):
        raise errors.inputs.unknown_choice("rounding", granularity, get_args(Granularity))
    steps = STEPS[granularity] if steps is None else steps
    if steps < 1:
        raise errors.inputs.impossible_setting("steps", steps, "at least 1")
    source = as_sliceable(images)
    check_images(prepared, source)
    with using_threads(threads or torch.get_num_threads()):
        if granularity == "network":
            learned = reconstruct_network(
                prepared, placement, plan, source, steps=steps, flip=flip, seed=seed, on_progress=on_progress
            )
            return Reconstructed(*learned, len(source))
        x = first_images(prepared, source, images_used)
        rounded = reconstruct_parts(
            prepared, plan, x, granularity=granularity, steps=steps, seed=seed, on_progress=on_progress
        )
        return Reconstructed(rounded, plan, len(x))
