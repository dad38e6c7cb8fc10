"""Cross-layer equalization: even out what one scale must cover, by moving factors between layers.

A channel made larger by f > 0 in the weights that compute it, and smaller in the weights that read it, leaves the
function as it is (Nagel et al. 2019); channel_scaling.py says through which operators.

    by weights       f = sqrt(r2 / r1): the channel's largest weights in the layers that compute it (r1) and that read
                     it (r2), as shares of those layers' largest weights, become equal, so that one scale for all of
                     a layer's weights is not spent on a few large channels.
    by activations   f = (largest value of all channels / largest value of the channel) ** strength, so that every
                     channel makes use of the codes (as SmoothQuant, Xiao et al. 2022, does in transformers).

The upper bound of a Clip (ReLU6) cannot move with its channels, because the end of the codes stands for it. Channels
that reached it on the calibration images keep a factor of 1; the others grow until the largest value seen, with some
headroom, touches it. Such a channel is then cut at bound / f instead of bound: no difference on any image that stays
within the headroom, and so the one thing here that is not exact. Without statistics no channel of a Clip is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import constant, integer
from ..calibration.histogram import Histogram
from ..passes.shortcut_to_convolution import selects_channels
from ..placing.placement import absorbing
from ..placing.refusals import WITH_WEIGHTS, clip_bounds
from ..weights import output_axis
from .channel_scaling import ChannelGroups, channel_groups, scale_channels

By = Literal["weights", "activations"]

STRENGTH = 0.5
SWEEPS, CONVERGED = 20, 0.01
REACHED = 0.999
"""A channel that comes to this share of a bound is taken to be cut by it."""
HEADROOM = 1.1
LARGEST = 100.0
"""No factor goes beyond this or its inverse: channels dead on the calibration images may wake up on others."""


@dataclass(frozen=True)
class Equalization:
    groups: ChannelGroups
    factors: np.ndarray
    """float64 [groups]: what the channels of each group are multiplied by."""
    recut: int
    """Groups of channels that their Clip now cuts somewhere else, where no calibration image came."""

    def summary(self) -> str:
        moved = self.factors[self.factors != 1.0]
        if not len(moved):
            return "no channel can be scaled without changing the function"
        sentence = f"{len(moved)} of {len(self.factors) - 1} channels scaled by {moved.min():.3g} to {moved.max():.3g}"
        if not self.recut:
            return f"{sentence}, for the same function"
        beyond = f"once their values exceed all calibration images' by {HEADROOM - 1:.0%}"
        return f"{sentence}; {self.recut} of them are cut elsewhere by their Clip {beyond}"


def equalize(
    prepared: ir.Model, *, by: By, statistics: Mapping[str, Histogram] | None = None, strength: float = STRENGTH
) -> ir.Model:
    """A copy of the prepared graph with other weights; `plan_equalization` has the arguments and says what changed."""
    planned = plan_equalization(prepared, by=by, statistics=statistics, strength=strength)
    return scale_channels(prepared, planned.groups, planned.factors)


def plan_equalization(
    prepared: ir.Model, *, by: By, statistics: Mapping[str, Histogram] | None = None, strength: float = STRENGTH
) -> Equalization:
    """The factors of `equalize`.

    `statistics` are what `calibrate` says of the values named by `equalizable`. `strength`, 0 to 1, is for
    activations: the share of the channels' spread (as logarithm) that goes into the weights.
    """
    seen = statistics or {}
    groups = channel_groups(_with_relus(prepared))
    limits, held = np.full(len(groups.free), LARGEST), ~groups.free
    clips = _clipped_channels(prepared, groups)
    for name, (channels, bound) in clips.items():
        highest = seen[name].channel_highs.astype(np.float64) if name in seen else np.full(len(channels), bound)
        held[channels[highest >= REACHED * bound]] = True
        room = bound / (HEADROOM * np.maximum(highest, bound / LARGEST))
        np.minimum.at(limits, channels, np.maximum(room, 1.0))
    groups = ChannelGroups(groups.of_value, ~held)
    if by == "weights":
        factors = _even_weights(_layers(prepared, groups), groups.free, limits)
    else:
        factors = _even_activations(groups, seen, limits, strength)
    clipped = np.unique(np.concatenate([np.zeros(0, np.int64), *(channels for channels, _ in clips.values())]))
    return Equalization(groups, factors, int((factors[clipped] != 1.0).sum()))


def automatic(prepared: ir.Model, *, per_channel: bool) -> By | None:
    """What pays without being asked for: evening out weights where one scale must serve what differs most, a whole
    layer's weights (per_channel = False), or all that is concatenated, which a normalisation then reads channel by
    channel (DenseNet)."""
    if not per_channel or any(_scales_channels(node) and _concatenates(node.inputs[0]) for node in prepared.graph):
        return "weights"
    return None


def _scales_channels(node: ir.Node) -> bool:
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    return weight is not None and weight.shape[1:] == (1, 1, 1) and integer(node, "group", 1) == len(weight) > 1


def _concatenates(value: ir.Value | None) -> bool:
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type in ("MaxPool", "AveragePool"):
        return _concatenates(maker.inputs[0])
    return maker is not None and maker.op_type == "Concat"


def equalizable(prepared: ir.Model, *, by: By) -> tuple[str, ...]:
    """Names of the values whose ranges per channel `plan_equalization` wants: of those with free channels, all but
    what an activation behind them takes in; by weights, only what a Clip cuts."""
    groups = channel_groups(_with_relus(prepared))
    free = {name for name, channels in groups.of_value.items() if groups.free[channels].any()}
    if by == "weights":
        free &= _clipped_channels(prepared, groups).keys()
    return tuple(
        str(value.name)
        for node in prepared.graph
        for value in node.outputs
        if value.name in free and not any(absorbing(use.node) is node for use in value.uses())
    )


def _with_relus(prepared: ir.Model) -> ir.Model:
    """A copy whose Clips from 0 and PRelus are Relus, through which channels can be scaled alike."""
    copy = prepared.clone()
    for node in list(copy.graph):
        clips = node.op_type == "Clip" and (clip_bounds(node) or (None,))[0] == 0.0
        slopes = node.op_type == "PRelu" and constant(node.inputs[1]) is not None
        if not clips and not slopes:
            continue
        relu = ir.Node("", "Relu", [node.inputs[0]], name=node.name)
        relu.outputs[0].shape, relu.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        ir.convenience.replace_nodes_and_values(copy.graph, node, [node], [relu], node.outputs, relu.outputs)
    return copy


def _clipped_channels(prepared: ir.Model, groups: ChannelGroups) -> dict[str, tuple[np.ndarray, float]]:
    """By the name of the result, for every Clip with an upper bound: groups of its channels, and the bound."""
    found = {}
    for node in prepared.graph:
        bounds, name = clip_bounds(node) if node.op_type == "Clip" else None, str(node.outputs[0].name)
        if bounds is not None and np.isfinite(bounds[1]) and name in groups.of_value:
            found[name] = groups.of_value[name], bounds[1]
    return found


@dataclass(frozen=True)
class _Layer:
    sizes: np.ndarray
    """float64 [parts, out, in]: the largest weight between two channels of each part of a grouped convolution."""
    written: np.ndarray
    """int64 [parts, out]: groups of the output channels."""
    read: np.ndarray
    """int64 [parts, in]: groups of the input channels."""

    def shares(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Largest weight / largest weight of the layer, with exp(logs) applied: [parts, out] of the channels written,
        and [parts, in] of those read."""
        scaled = self.sizes * np.exp(logs[self.written])[:, :, None] * np.exp(-logs[self.read])[:, None, :]
        scaled /= scaled.max()
        return scaled.max(2), scaled.max(1)


def _layers(prepared: ir.Model, groups: ChannelGroups) -> list[_Layer]:
    layers = []
    for node in prepared.graph:
        if node.op_type not in WITH_WEIGHTS or selects_channels(node):
            continue
        source, result = (str(value.name) if value is not None else "" for value in (node.inputs[0], node.outputs[0]))
        weight = constant(node.inputs[1])
        if weight is None or not weight.any() or source not in groups.of_value or result not in groups.of_value:
            continue
        parts = integer(node, "group", 1)
        written, read = (groups.of_value[name].reshape(parts, -1) for name in (result, source))
        sizes = np.abs(np.moveaxis(weight, output_axis(node), 0)).astype(np.float64)
        layers.append(_Layer(sizes.reshape(*written.shape, read.shape[1], -1).max(3), written, read))
    return layers


def _even_weights(layers: list[_Layer], free: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Sweep over the layers until both sides of every free group carry the same share."""
    logs = np.zeros(len(free))
    members = [np.unique(np.concatenate([layer.written.ravel(), layer.read.ravel()])) for layer in layers]
    turns: dict[bytes, tuple[np.ndarray, list[_Layer]]] = {}
    for layer in layers:
        turn = np.zeros(len(free), bool)
        turn[layer.written] = free[layer.written]
        if turn.any():
            near = [other for other, own in zip(layers, members, strict=True) if turn[own].any()]
            turns[turn.tobytes()] = np.flatnonzero(turn), near
    for _ in range(SWEEPS):
        before = logs.copy()
        for turn, near in turns.values():
            written, read = np.zeros(len(free)), np.zeros(len(free))
            for layer in near:
                of_written, of_read = layer.shares(logs)
                np.maximum.at(written, layer.written, of_written)
                np.maximum.at(read, layer.read, of_read)
            both = turn[(written[turn] > 0.0) & (read[turn] > 0.0)]
            balanced = logs[both] + np.log(read[both] / written[both]) / 2
            logs[both] = np.clip(balanced, -np.log(LARGEST), np.log(limits[both]))
        if np.abs(logs - before).max() < CONVERGED:
            break
    return np.exp(logs)


def _even_activations(
    groups: ChannelGroups, statistics: Mapping[str, Histogram], limits: np.ndarray, strength: float
) -> np.ndarray:
    shares = np.zeros(len(groups.free))
    for name, histogram in statistics.items():
        sizes = np.maximum(np.abs(histogram.channel_lows), np.abs(histogram.channel_highs)).astype(np.float64)
        if name in groups.of_value and sizes.max() > 0.0:
            np.maximum.at(shares, groups.of_value[name], sizes / sizes.max())
    factors = np.ones(len(shares))
    moved = groups.free & (shares > 0.0)
    factors[moved] = np.minimum(np.maximum(shares[moved], 1.0 / LARGEST) ** -strength, limits[moved])
    return factors
