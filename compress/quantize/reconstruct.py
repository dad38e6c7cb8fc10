"""Learned rounding: weights and biases chosen by what they do to outputs, not by how near they are to the float ones.

    layers    each layer answers as its float twin does (AdaRound, Nagel et al. 2020)
    blocks    each stretch between two cuts of the graph does: a residual block, mostly (BRECQ, Li et al. 2021)
    network   the whole network does; scales are learned too (network_reconstruction.py)

Inputs come from the network as it is quantized so far, targets from the float one, so that later layers make up for
what earlier ones lose. Labels are not used. Only this needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ... import errors
from ..threads import using_threads
from .adaround import SoftRounding, beta_at
from .imagechunks import Images, as_sliceable, check_images, chunk_of
from .network_reconstruction import reconstruct_network
from .placement import Placement
from .plan import QuantPlan
from .simulation import Simulation, batch_size
from .torch_graph import TorchGraph
from .units import Unit, result_of, units

Granularity = Literal["layers", "blocks", "network"]

STEPS: dict[Granularity, int] = {"layers": 200, "blocks": 300, "network": 400}
"""Of each layer, of each block, in all: what a user gets who asks for nothing else."""
LEAST_BATCH, BATCH = 4, 32
BATCH_ELEMENTS = 2**20
"""Of a unit's output, enough for a step: large maps need few images, because every position is an example."""
LR_ROUNDING, LR_BIAS = 0.1, 1e-3
REGULARIZER = 1.0
"""Weight of the regularizer beside an error that nearest rounding makes 1."""
CACHE_BYTES = 2**30
"""Fewer images are used where their activations at the ends of a unit would take more than this."""
RUN = 32
"""Images that run at a time where nothing is learned."""

Progress = Callable[[int, int], None]


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
        raise errors.unknown_choice("rounding", granularity, get_args(Granularity))
    steps = STEPS[granularity] if steps is None else steps
    if steps < 1:
        raise errors.impossible_setting("steps", steps, "at least 1")
    source = as_sliceable(images)
    check_images(prepared, source)
    with using_threads(threads or torch.get_num_threads()):
        if granularity == "network":
            learned = reconstruct_network(
                prepared, placement, plan, source, steps=steps, flip=flip, seed=seed, on_progress=on_progress
            )
            return Reconstructed(*learned, len(source))
        simulation = Simulation(prepared, plan)
        local = _Local(prepared, simulation, torch.Generator().manual_seed(seed), steps, on_progress)
        count = local.images_that_fit(min(len(source), images_used))
        local.learn_all(torch.from_numpy(chunk_of(source, 0, count)), granularity)
        return Reconstructed(simulation.to_ir(), plan, count)


class _Local:
    """Learns unit after unit, in graph order."""

    def __init__(
        self,
        prepared: ir.Model,
        simulation: Simulation,
        random: torch.Generator,
        steps: int,
        on_progress: Progress | None,
    ) -> None:
        self.prepared, self.simulation, self.random, self.steps = prepared, simulation, random, steps
        self.float = TorchGraph(prepared).requires_grad_(False)
        self.absorbed = {node.name for node in simulation.plan.nodes if node.kind == "absorbed"}
        self.on_progress, self.done, self.total = on_progress, 0, 1

    def learn_all(self, images: Tensor, granularity: Granularity) -> None:
        learnable = self.simulation.learnable
        parts = units(self.prepared, learnable, self.absorbed, least=1 if granularity == "layers" else 2)
        self.total = steps_in(parts, granularity) * self.steps
        exact = seen = images
        for unit in parts:
            if granularity == "layers":
                for node in unit.nodes:
                    self._learn_layer(unit, node, exact, seen)
            elif unit.nodes:
                target = self._run(self.float, unit.start, exact, unit.end)
                self._learn(list(unit.nodes), unit.start, unit.end, seen, target)
            exact = self._run(self.float, unit.start, exact, unit.end)
            seen = self._run(self.simulation.graph, unit.start, seen, unit.end)

    def images_that_fit(self, wanted: int) -> int:
        """How many images' activations at both ends of any unit, float and quantized, fit in CACHE_BYTES."""
        sizes = {
            str(v.name): int(np.prod([d for d in v.shape if isinstance(d, int)]))
            for v in (*self.prepared.graph.inputs, *(v for node in self.prepared.graph for v in node.outputs))
            if v.shape is not None
        }
        ends = 6 * max(sizes.values(), default=1)  # two at either end of a unit, two of a layer inside it
        batch = batch_size(self.prepared, 1)
        return max(1, min(wanted, CACHE_BYTES // (4 * ends)) // batch) * batch

    def _learn_layer(self, unit: Unit, node: str, exact: Tensor, seen: Tensor) -> None:
        source = next(step.inputs[0] for step in self.simulation.graph.steps if step.name == node)
        assert source is not None
        result = result_of(self.prepared, node, self.absorbed)
        target = self._run(self.float, unit.start, exact, result)
        inputs = seen if source == unit.start else self._run(self.simulation.graph, unit.start, seen, source)
        self._learn([node], source, result, inputs, target)

    def _learn(self, nodes: list[str], start: str, end: str, inputs: Tensor, target: Tensor) -> None:
        simulation = self.simulation
        nearest = self._run(simulation.graph, start, inputs, end)
        error = float((nearest - target).square().mean())
        simulation.learn(nodes, SoftRounding)
        roundings = [simulation.roundings[node] for node in nodes]
        biases = [simulation.biases[node] for node in nodes if node in simulation.biases]
        # A bias moves by shares of what its layer's output is wrong by, so that any scale of activations will do.
        optimizer = torch.optim.Adam(
            [
                {"params": [rounding.v for rounding in roundings], "lr": LR_ROUNDING},
                {"params": biases, "lr": LR_BIAS * float(target.square().mean().sqrt())},
            ]
        )
        enough = max(LEAST_BATCH, min(BATCH, BATCH_ELEMENTS // target[0].numel()))
        batch = batch_size(self.prepared, min(enough, len(inputs)))
        for step in range(self.steps):
            chosen = torch.randint(len(inputs), (batch,), generator=self.random)
            output = simulation.graph.run({start: inputs[chosen]}, collect=[end])[end]
            loss = (output - target[chosen]).square().mean() / max(error, torch.finfo(torch.float32).tiny)
            beta = beta_at(step / self.steps)
            if beta is not None:
                hardness = [r.regularizer(beta) for r in roundings if isinstance(r, SoftRounding)]
                loss = loss + REGULARIZER * torch.stack(hardness).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.done += 1
            if self.on_progress:
                self.on_progress(self.done, self.total)
        simulation.settle(nodes)

    @torch.no_grad()
    def _run(self, graph: TorchGraph, start: str, inputs: Tensor, end: str) -> Tensor:
        if start == end:
            return inputs
        return torch.cat(
            [graph.run({start: part}, collect=[end])[end] for part in inputs.split(batch_size(self.prepared, RUN))]
        )


def steps_in(parts: list[Unit], granularity: Granularity) -> int:
    """How many things are learned one after the other."""
    return sum(len(unit.nodes) if granularity == "layers" else bool(unit.nodes) for unit in parts)
