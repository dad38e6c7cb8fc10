"""Learn the rounding of a graph part by part, each on what it reads and should answer (AdaRound, BRECQ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ..calibration.imagechunks import Sliceable, chunk_of
from ..plan import QuantPlan
from .adaround import SoftRounding, beta_at
from .simulation import Simulation, batch_size
from .torch_graph import TorchGraph
from .units import Unit, result_of, units

Parts = Literal["layers", "blocks"]

LEAST_NODES: dict[Parts, int] = {"layers": 1, "blocks": 2}
"""With weights, in a unit."""
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


def reconstruct_parts(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Tensor,
    *,
    granularity: Parts,
    steps: int,
    seed: int,
    on_progress: Progress | None = None,
) -> ir.Model:
    """The graph with learned weights, which lie on the grid of the plan, and learned biases.

    `images` are float32 [N, C, H, W]; `steps` are for each part, and `on_progress(done, total)` counts them all.
    """
    simulation = Simulation(prepared, plan)
    learning = _Learning(prepared, simulation, torch.Generator().manual_seed(seed), steps, on_progress)
    learning.learn_all(images, granularity)
    return simulation.to_ir()


def first_images(prepared: ir.Model, images: Sliceable, wanted: int) -> Tensor:
    """As many images as `reconstruct_parts` can hold in CACHE_BYTES with the activations at the ends of any part."""
    sizes = [
        int(np.prod([dim for dim in value.shape if isinstance(dim, int)]))
        for value in (*prepared.graph.inputs, *(value for node in prepared.graph for value in node.outputs))
        if value.shape is not None
    ]
    at_once = 6 * max(sizes, default=1)  # float and quantized at both ends of a unit and of a layer inside it
    batch = batch_size(prepared, 1)
    count = max(1, min(len(images), wanted, CACHE_BYTES // (4 * at_once)) // batch) * batch
    return torch.from_numpy(chunk_of(images, 0, count))


class _Learning:
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

    def learn_all(self, images: Tensor, granularity: Parts) -> None:
        learnable = self.simulation.learnable
        parts = units(self.prepared, learnable, self.absorbed, least=LEAST_NODES[granularity])
        layers = granularity == "layers"
        self.total = self.steps * (len(learnable) if layers else sum(bool(unit.nodes) for unit in parts))
        exact = seen = images
        for unit in parts:
            if layers:
                for node in unit.nodes:
                    self._learn_layer(unit, node, exact, seen)
            elif unit.nodes:
                target = self._run(self.float, unit.start, exact, unit.end)
                self._learn(list(unit.nodes), unit.start, unit.end, seen, target)
            exact = self._run(self.float, unit.start, exact, unit.end)
            seen = self._run(self.simulation.graph, unit.start, seen, unit.end)

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
