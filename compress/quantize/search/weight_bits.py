"""How many bits each layer's weights need under a budget of bytes: HAQ's question (Wang et al. 2019), answered by
measured sensitivity and a knapsack instead of an agent.

Each layer's weights are quantized alone to each number of bits, everything else in float, and the noise at the logits
is measured. Noise nearly adds up over layers, so the best assignment for a budget is a multiple-choice knapsack.

Fewer than eight bits make no ONNX file smaller by themselves: codes are stored a byte each, and ONNX Runtime computes
on bytes. The bytes counted here are those of a coded file, by one of two codings:

    packed    bits * weights / 8, what a runtime with sub-byte weights stores
    entropy   Shannon's bound for codes drawn as often as they occur in the layer, which arithmetic coding comes within
              a percent of and a zip archive of the file within some tens of percent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from .... import errors
from ....models.onnx_graph import add_initializer, constant
from ..calibration.imagechunks import Images
from ..plan import FEWEST_BITS, MOST_BITS, QuantPlan, weight_codes
from ..session import open_session
from ..weights import quantize_weight
from .knapsack import Option, choose
from .sensitivity import noise_share, run_all

Coding = Literal["entropy", "packed"]


@dataclass(frozen=True)
class LayerBits:
    """One layer's weights at one number of bits."""

    name: str
    bits: int
    coded_bytes: float
    noise: float
    """Power of the error at the logits as a share of the logits' own, with this layer's weights alone quantized."""


@dataclass(frozen=True)
class BitsPlan:
    weight_bits: dict[str, int]
    """By node name; what `plan_from` takes."""
    coded_bytes: float
    eight_bits_bytes: float
    """The same with eight bits everywhere."""
    noise: float
    coding: Coding


def search_bits(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Images,
    *,
    budget: float,
    coding: Coding = "entropy",
    on_progress: Callable[[int, int], None] | None = None,
) -> BitsPlan:
    """The bits per layer with the least noise whose coded weights take at most `budget` of those of eight bits.

    `plan` is for `prepared`, with eight bits; `images` float32 [N, C, H, W], a few dozen will do. Raises
    EdgeLatheError where the fewest bits already take more, naming the share that can be had.
    """
    layers = measure_bits(prepared, plan, images, coding=coding, on_progress=on_progress)
    return spend_bytes(layers, budget=budget, coding=coding)


def spend_bytes(layers: Mapping[str, Sequence[LayerBits]], *, budget: float, coding: Coding) -> BitsPlan:
    """The choice among measured layers; `budget` and errors as in `search_bits`."""
    items = [[Option(option.coded_bytes, option.noise) for option in options] for options in layers.values()]
    whole = sum(max(options, key=lambda option: option.bits).coded_bytes for options in layers.values())
    chosen = choose(items, budget * whole)
    if chosen is None:
        least = sum(min(option.cost for option in options) for options in items) / whole
        raise errors.quantize.unreachable_weight_size(budget, least)
    picked = [options[number] for options, number in zip(layers.values(), chosen.picks, strict=True)]
    return BitsPlan({option.name: option.bits for option in picked}, chosen.cost, whole, chosen.loss, coding)


def measure_bits(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Images,
    *,
    coding: Coding = "entropy",
    bits: Sequence[int] = tuple(range(FEWEST_BITS, MOST_BITS + 1)),
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[LayerBits, ...]]:
    """Bytes and noise of every layer at every number of bits, by node name.

    One session serves them all: the weights are inputs of the model, which a run may replace.
    """
    nodes = [node for node in prepared.graph if str(node.name) in plan.weights]
    run = _Replaceable(prepared, nodes, images)
    reference = run({})
    found = {}
    for number, node in enumerate(nodes, start=1):
        found[str(node.name)] = tuple(_layer(node, plan, count, coding, run, reference) for count in bits)
        if on_progress:
            on_progress(number, len(nodes))
    return found


def coded_bytes(codes: np.ndarray, bits: int, coding: Coding) -> float:
    """Bytes of a layer's codes, without its scales."""
    if coding == "packed":
        return codes.size * bits / 8
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / codes.size
    return float(-np.sum(counts * np.log2(shares)) / 8)


def _layer(
    node: ir.Node, plan: QuantPlan, bits: int, coding: Coding, run: _Replaceable, reference: np.ndarray
) -> LayerBits:
    weight = constant(node.inputs[1])
    assert weight is not None
    limit = min(plan.weights[str(node.name)].limit, 2 ** (bits - 1) - 1)
    chosen = weight_codes(node, plan.codes, limit, plan.per_channel)
    codes = quantize_weight(weight, chosen.array, chosen.axis, limit=limit)
    shape = [1] * weight.ndim
    if chosen.axis is not None:
        shape[chosen.axis] = -1
    rounded = (codes * chosen.array.reshape(shape)).astype(np.float32)
    noise = noise_share(reference, run({str(node.name): rounded}))
    return LayerBits(str(node.name), bits, coded_bytes(codes, bits, coding), noise)


class _Replaceable:
    """Runs the float model on the images with some weights replaced."""

    def __init__(self, prepared: ir.Model, nodes: Sequence[ir.Node], images: Images) -> None:
        model, names = prepared.clone(), {node.name for node in nodes}
        for node in [node for node in model.graph if node.name in names]:
            weight = constant(node.inputs[1])
            assert weight is not None
            stored = add_initializer(model.graph, replaced(str(node.name)), weight)
            node.replace_input_with(1, stored)
            model.graph.inputs.append(stored)
        self._session, self._images = open_session(model), images

    def __call__(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        return run_all(self._session, self._images, {replaced(name): weight for name, weight in weights.items()})


def replaced(node: str) -> str:
    """Name of the input that holds the node's weights."""
    return f"{node}_replaceable"
