"""Cross-layer equalization: even out what one scale must cover, by moving factors between layers.

A channel made larger by f > 0 in the weights that compute it, and smaller in the weights that read it, leaves the
function as it is (Nagel et al. 2019; channel_scaling.py says through which operators).

    by weights       f = sqrt(r2 / r1): r1 and r2, the channel's largest weight in the layers that compute and that read
                     it, as shares of those layers' largest weights, become equal. One scale per tensor then wastes
                     nothing on a few large channels.
    by activations   f = (largest value of the tensor / largest value of the channel) ** strength, so that the codes of a
                     value are used by all of its channels (as SmoothQuant, Xiao et al. 2022, does for token outliers).

An upper bound of a Clip (ReLU6) does not move with its channel. Channels that reached it on the calibration images
keep their factor of 1; the others grow until they would reach it at most. The bound then cuts such a channel at
bound / f instead of bound, which no calibration image shows and other images may, so their number is reported.
Without statistics no channel of a Clip is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ...models.onnx_graph import constant, integer
from .channel_scaling import ChannelGroups, channel_groups, scale_channels
from .histogram import Histogram
from .placement import absorbing
from .refusals import WITH_WEIGHTS, clip_bounds
from .shortcut_to_convolution import selects_channels
from .weights import output_axis

By = Literal["weights", "activations"]

SWEEPS = 20
STRENGTH = 0.5
REACHED = 0.999
"""A channel that comes to this share of a bound is taken to be cut by it."""
HEADROOM = 1.1
"""Calibration images do not show a channel's largest value of all."""
LARGEST = 100.0
"""Channels that are dead on the calibration images may wake up on others."""


@dataclass(frozen=True)
class Equalization:
    groups: ChannelGroups
    factors: np.ndarray
    """float64 [groups]: what the channels of each group are multiplied by."""
    bounded: int
    """Channels of Clips whose bound cuts them elsewhere than before, out of the sight of the calibration images."""

    def summary(self) -> str:
        moved = self.factors[self.factors != 1.0]
        if not len(moved):
            return "no channel can be scaled without changing what the network computes"
        sentence = f"{len(moved)} of {len(self.factors)} channels scaled by {moved.min():.3g} to {moved.max():.3g}"
        if not self.bounded:
            return f"{sentence}, the same function"
        return f"{sentence}; {self.bounded} of them were never cut by their Clip on the calibration images, and are now cut elsewhere"


def equalize(
    prepared: ir.Model, *, by: By, statistics: Mapping[str, Histogram] | None = None, strength: float = STRENGTH
) -> ir.Model:
    """A copy of a prepared graph with other weights and the same function; `plan_equalization` tells how far.

    `statistics` are those of `calibrate` for the values of `equalizable`; `by="activations"` needs them.
    """
    planned = plan_equalization(prepared, by=by, statistics=statistics, strength=strength)
    return scale_channels(prepared, planned.groups, planned.factors)


def equalizable(prepared: ir.Model) -> tuple[str, ...]:
    """Names of the values whose ranges per channel decide about factors: what is quantized, and what is clipped."""
    groups = channel_groups(_commuting(prepared))
    return tuple(
        str(value.name)
        for node in prepared.graph
        for value in node.outputs
        if groups.free[groups.of_value.get(str(value.name), np.zeros(0, np.int64))].any()
        and not any(absorbing(use.node) is node for use in value.uses())
    )


def plan_equalization(
    prepared: ir.Model, *, by: By, statistics: Mapping[str, Histogram] | None = None, strength: float = STRENGTH
) -> Equalization:
    """The factors that `equalize` applies."""
    groups = channel_groups(_commuting(prepared))
    limits = np.full(len(groups.free), LARGEST)
    free = groups.free.copy()
    for of_channels, room in _clipped(prepared, groups, statistics or {}):
        free[of_channels[room < 1.0]] = False
        np.minimum.at(limits, of_channels, np.maximum(room, 1.0))
    groups = ChannelGroups(groups.of_value, free)
    if by == "weights":
        factors = _even_weights(_layers(prepared, groups), free, limits)
    else:
        assert statistics is not None
        factors = _even_activations(groups, statistics, limits, strength)
    clipped = [of_channels for of_channels, _ in _clipped(prepared, groups, statistics or {})]
    moved = np.unique(np.concatenate(clipped)) if clipped else np.zeros(0, np.int64)
    return Equalization(groups, factors, int((factors[moved] != 1.0).sum()))


def _commuting(prepared: ir.Model) -> ir.Model:
    """A copy whose Clips from 0 and PRelus are Relus, through which channels can be scaled alike."""
    copy = prepared.clone()
    for node in list(copy.graph):
        clips = node.op_type == "Clip" and (clip_bounds(node) or (None,))[0] == 0.0
        slopes = node.op_type == "PRelu" and constant(node.inputs[1]) is not None
        if not clips and not slopes:
            continue
        relu = ir.Node("", "Relu", [node.inputs[0]], name=node.name)
        ir.convenience.replace_nodes_and_values(copy.graph, node, [node], [relu], node.outputs, relu.outputs)
    return copy


def _clipped(
    prepared: ir.Model, groups: ChannelGroups, statistics: Mapping[str, Histogram]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For every Clip with an upper bound: the groups of its channels, and how much larger each may become.

    Less than 1 where a channel must stay as it is.
    """
    for node in prepared.graph:
        name = str(node.outputs[0].name)
        if node.op_type != "Clip" or name not in groups.of_value:
            continue
        bounds, of_channels = clip_bounds(node), groups.of_value[name]
        if bounds is None or not np.isfinite(bounds[1]):
            continue
        if name not in statistics:
            yield of_channels, np.zeros(len(of_channels))
            continue
        highest = statistics[name].channel_highs.astype(np.float64)
        room = bounds[1] / (HEADROOM * np.maximum(highest, bounds[1] / LARGEST))
        yield of_channels, np.where(highest >= REACHED * bounds[1], 0.0, np.maximum(room, 1.0))


@dataclass(frozen=True)
class _Layer:
    sizes: np.ndarray
    """float64 [parts, out, in]: the largest weight between two channels of each part of a grouped convolution."""
    written: np.ndarray
    """int64 [parts, out]: groups of the output channels."""
    read: np.ndarray
    """int64 [parts, in]: groups of the input channels."""

    def shares(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Largest log (weight / largest weight of the layer) by group, float64 [groups], with exp(logs) applied.

        Of the channels written, and of those read; -inf for groups that are not.
        """
        scaled = self.sizes * np.exp(logs[self.written])[:, :, None] / np.exp(logs[self.read])[:, None, :]
        written, read = np.zeros(len(logs)), np.zeros(len(logs))
        np.maximum.at(written, self.written.ravel(), scaled.max(2).ravel())
        np.maximum.at(read, self.read.ravel(), scaled.max(1).ravel())
        with np.errstate(divide="ignore"):
            return np.log(written) - np.log(scaled.max()), np.log(read) - np.log(scaled.max())


def _layers(prepared: ir.Model, groups: ChannelGroups) -> list[_Layer]:
    layers = []
    for node in prepared.graph:
        source, result = (str(value.name) for value in (node.inputs[0], node.outputs[0]) if value is not None)
        if node.op_type not in WITH_WEIGHTS or selects_channels(node):
            continue
        weight = constant(node.inputs[1])
        if weight is None or source not in groups.of_value or result not in groups.of_value:
            continue
        parts = integer(node, "group", 1)
        written, read = (groups.of_value[name].reshape(parts, -1) for name in (result, source))
        sizes = np.abs(np.moveaxis(weight, output_axis(node), 0)).astype(np.float64)
        sizes = sizes.reshape(*written.shape, read.shape[1], -1).max(3)
        layers.append(_Layer(sizes, written, read))
    return layers


def _even_weights(layers: list[_Layer], free: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Sweep over the layers until both sides of every free group carry about the same share."""
    logs = np.zeros(len(free))
    members = [np.unique(np.concatenate([layer.written.ravel(), layer.read.ravel()])) for layer in layers]
    for _ in range(SWEEPS):
        for layer in layers:
            turn = np.zeros(len(free), bool)
            turn[layer.written] = True
            turn &= free
            shares = [other.shares(logs) for other, own in zip(layers, members, strict=True) if turn[own].any()]
            if not shares:
                continue
            written, read = (np.max(side, axis=0) for side in zip(*shares, strict=True))
            turn &= np.isfinite(written) & np.isfinite(read)
            balanced = logs[turn] + (read[turn] - written[turn]) / 2
            logs[turn] = np.clip(balanced, -np.log(LARGEST), np.log(limits[turn]))
    return np.exp(logs)


def _even_activations(
    groups: ChannelGroups, statistics: Mapping[str, Histogram], limits: np.ndarray, strength: float
) -> np.ndarray:
    shares = np.zeros(len(groups.free))
    for name, histogram in statistics.items():
        if name in groups.of_value:
            sizes = np.maximum(np.abs(histogram.channel_lows), np.abs(histogram.channel_highs)).astype(np.float64)
            if sizes.max() > 0.0:
                np.maximum.at(shares, groups.of_value[name], sizes / sizes.max())
    moved = groups.free & (shares > 0.0)
    factors = np.ones(len(shares))
    factors[moved] = np.minimum(np.maximum(shares[moved], 1.0 / LARGEST) ** -strength, limits[moved])
    return factors
