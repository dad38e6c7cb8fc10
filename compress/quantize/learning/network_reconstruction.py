"""Bring the logits of the int8 network as close to the float ones as its scales and weights can.

First the scales of values and of their channels and the zero points are learned (learned_scales.py), after sums were
made exact where that is quieter (exact_sums.py). Then weights are rounded as each layer likes it best, and from there
move over the grids of the new plan, and the biases with them. First and last by

    mean (quantized logits - float logits)^2 / mean (float logits)^2

on cuts of the calibration images that are different in every step. No labels are used, so nothing is learned about the
task but how to repeat the float network's answers.
"""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

from ...schedule import learning_rate
from ..calibration.imagechunks import Sliceable, chunk_of
from ..placing.placement import Placement
from ..plan import QuantPlan
from ..repair.noise_gains import noise_gains
from .adaround import FreeRounding
from .exact_sums import share_scales, sums_to_share
from .learned_scales import LearnedScales
from .local_reconstruction import Progress, first_images, reconstruct_parts
from .simulation import Simulation, batch_size
from .torch_graph import TorchGraph

BATCH = 32
SHARE_OF_SCALES, MOST_SCALE_STEPS = 0.25, 100
"""Of the steps, at most so many, learn scales; the rest learn weights."""
LAYER_STEPS, LAYER_IMAGES = 100, 256
WARMUP = 10
LR_WEIGHT = 0.0114
"""In codes: about how far a weight moves in a step."""
LR_BIAS = 3e-5
BETAS = (0.9, 0.99)


def reconstruct_network(
    prepared: ir.Model,
    placement: Placement,
    plan: QuantPlan,
    images: Sliceable,
    *,
    steps: int,
    flip: bool,
    seed: int,
    on_progress: Progress | None = None,
) -> tuple[ir.Model, QuantPlan]:
    """The graph with scaled channels and learned weights, which lie on the grid of the plan returned with it.

    `images` are float32 [N, C, H, W], as the graph takes them; a batch of them is held at a time.
    """
    random = torch.Generator().manual_seed(seed)
    batch = batch_size(prepared, BATCH)
    teacher = TorchGraph(prepared).requires_grad_(False)
    for_scales = min(MOST_SCALE_STEPS, round(SHARE_OF_SCALES * steps))
    done, total = 0, steps + LAYER_STEPS * len(Simulation(prepared, plan).learnable)

    def count_on(*_: int) -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, total)

    def learn(student: TorchGraph, optimizer: torch.optim.Optimizer, count: int) -> None:
        peaks = [group["lr"] for group in optimizer.param_groups]
        for step in range(count):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = learning_rate("cosine", peak, step + 1, count + 1, min(WARMUP, count / 2))
            x = _draw(images, batch, flip, random)
            with torch.no_grad():
                wanted = teacher(x)
            loss = (student(x) - wanted).square().mean() / wanted.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count_on()

    heard = noise_gains(teacher, plan.codes.keys(), _draw(images, batch, flip, random), random)
    shared = sums_to_share(prepared, placement, plan, heard)
    plan = share_scales(prepared, placement, plan, shared)
    simulation = Simulation(prepared, plan)
    if for_scales:
        scales = LearnedScales(prepared, placement, plan, shared, simulation)
        simulation.graph.on_value, simulation.graph.on_weight = scales.value, None
        learn(simulation.graph, scales.optimizer(), for_scales)
        prepared, plan = scales.result()
    by_layer = first_images(prepared, images, LAYER_IMAGES)
    prepared = reconstruct_parts(
        prepared, plan, by_layer, granularity="layers", steps=LAYER_STEPS, seed=seed, on_progress=count_on
    )
    simulation = Simulation(prepared, plan)
    simulation.learn(simulation.learnable, FreeRounding)
    weights = [rounding.v for rounding in simulation.roundings.values()]
    biases = list(simulation.biases.values())
    groups = [{"params": weights, "lr": LR_WEIGHT}, {"params": biases, "lr": LR_BIAS}]
    learn(simulation.graph, torch.optim.Adam(groups, betas=BETAS), steps - for_scales)
    simulation.settle(simulation.learnable)
    return simulation.to_ir(), plan


def _draw(images: Sliceable, count: int, flip: bool, random: torch.Generator) -> Tensor:
    """`count` images, shifted by up to an eighth of their sides and, with `flip`, mirrored half of the time.

    What is shifted in mirrors the image at its edge. No value is changed, so pixels stay pixels.
    """
    chosen = torch.randint(len(images), (count,), generator=random).tolist()
    batch = torch.cat([torch.from_numpy(chunk_of(images, index, 1)) for index in chosen])
    if flip:
        mirrored = torch.rand(len(batch), generator=random) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    height, width = batch.shape[2:]
    down, right = height // 8, width // 8
    padded = F.pad(batch, (right, right, down, down), mode="reflect")
    tops = torch.randint(2 * down + 1, (len(batch),), generator=random).tolist()
    lefts = torch.randint(2 * right + 1, (len(batch),), generator=random).tolist()
    cuts = zip(padded, tops, lefts, strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, top, left in cuts])
