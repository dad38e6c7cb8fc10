"""How much a network loses without some of the channels of one group, all other groups whole (Li et al. 2017, 3.2).

Channels are silenced, not cut: nothing reads them, and every shape stays. Batch-norm statistics are not measured
again and nothing is trained, so a scan shows the loss right after the cut, which recovery makes smaller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor, nn

from ... import errors
from ...files import sha256_bytes, write_atomic
from ..checkpoint import state_sha256
from ..documents import read_document
from .apply import network_sha256, silence
from .criteria import Criterion, find_criterion
from .evidence import Samples, answer
from .importance import channel_importance, scorable
from .plan import Group
from .trace import trace_groups

FORMAT = 1
RATIOS = (0.25, 0.5, 0.75)

Measure = Literal["loss", "accuracy"]
MEASURES: tuple[Measure, ...] = ("loss", "accuracy")


@dataclass(frozen=True)
class Point:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    after: int
    """Channels of the group that were still read."""
    loss: float
    """Mean cross entropy over the images."""
    correct: int
    """Images classified right."""


@dataclass(frozen=True)
class GroupSensitivity:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    """The first layer of the network that produces these channels; it names the group, as in a pruning plan."""
    before: int
    points: tuple[Point, ...]
    """From few channels silenced to many; none where the group cannot be cut."""
    reason: str
    """Why it cannot be cut; empty where it can."""


@dataclass(frozen=True)
class Sensitivity:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: int
    network: str
    """SHA-256 over the names and shapes of the network."""
    key: str
    """SHA-256 over all that the figures depend on: weights, images, and which channels go first."""
    criterion: str
    images: int
    loss: float
    correct: int
    """Of the whole network."""
    groups: tuple[GroupSensitivity, ...]
    """Every group, in the order of the network."""

    def lost(self, point: Point, measure: Measure) -> float:
        """What a point costs: loss above the whole network's, or share of the images below its accuracy."""
        if measure == "loss":
            return point.loss - self.loss
        return (self.correct - point.correct) / self.images

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, source: Path | str = "sensitivity.json") -> Sensitivity:
        """Read and check a scan; raises EdgeLatheError that names `source` for anything that is not one."""
        found = read_document(
            _ADAPTER, text, format=FORMAT, what="the sensitivity scan", source=source, do="scan again"
        )
        if why := _nonsense(found):
            raise errors.inputs.unreadable_file("the sensitivity scan", source, why, "scan again")
        return found

    def __str__(self) -> str:
        scanned = [group for group in self.groups if group.points]
        longest = max([len(group.layer) for group in self.groups], default=5)
        head = (
            f"{self.criterion}; whole network: loss {self.loss:.4f}, {self.correct} of {self.images} images right;"
            " per group: channels left, loss above that, images right"
        )
        lines = [
            f"{group.layer:<{longest}}  {group.before:>5}  "
            + "  ".join(f"{point.after:>5} {point.loss - self.loss:+9.4f} {point.correct:>6}" for point in group.points)
            for group in scanned
        ]
        left = [f"{group.layer:<{longest}}  {group.before:>5}  {group.reason}" for group in self.groups if group.reason]
        return "\n".join([head, *lines, *left])


def scan_sensitivity(
    model: nn.Module,
    example: Tensor,
    judged: Samples,
    *,
    criterion: str | Criterion = "fpgm",
    ratios: Sequence[float] = RATIOS,
    ignore: Sequence[str] = (),
    seed: int = 0,
    samples: Samples | None = None,
    batch: int = 64,
    state: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Loss and accuracy of `model`, which is not touched, with each group alone narrowed by each ratio.

    example     -- float32 [N,C,H,W] of the size the network will run at; only its shape is used.
    judged      -- the images to judge on: a few hundred, not test images, or the widths are fitted to these.
    criterion   -- which channels go first, by `seed` and `samples`, as for `plan_channels`.
    ratios      -- shares of a group's channels that are silenced, each above 0 and below 1.
    ignore      -- names of layers or modules whose output channels stay.
    state       -- file that holds the scan, written after each group: a scan that finds one of the same weights,
                   images, channels and ratios there continues it.
    on_progress -- told (groups done, groups to do).

    One pass over the images for each group and ratio, and one for the whole network. Raises EdgeLatheError for
    impossible settings, labels that the network has no class for, and networks that cannot be traced.
    """
    if not ratios or not all(0 < ratio < 1 for ratio in ratios):
        raise errors.inputs.impossible_setting("ratios", list(ratios), "a list of numbers above 0 and below 1")
    if batch < 1:
        raise errors.inputs.impossible_setting("batch", batch, "1 or more")
    name, _ = find_criterion(criterion)
    groups = scorable(model, trace_groups(model, example, ignore), criterion)
    prunable = [group for group in groups if not group.reason]
    if not prunable:
        raise errors.prune.nothing_prunable([f"{group.layer}: {group.reason}" for group in groups])
    importance = channel_importance(model, groups, criterion, samples=samples, seed=seed)
    orders = {
        layer: torch.argsort(scores, descending=True, stable=True).tolist() for layer, scores in importance.items()
    }
    key = _key(model, judged, orders, ratios, batch)
    loss, correct = _judge(silence(model, ()), judged, batch)
    unscanned = tuple(GroupSensitivity(group.layer, group.before, (), group.reason) for group in groups)
    found = Sensitivity(FORMAT, network_sha256(model), key, name, len(judged.labels), loss, correct, unscanned)
    done = _done(state, key)
    for number, group in enumerate(prunable, start=1):
        points = done.get(group.layer) or tuple(
            Point(after, *_judge(silence(model, [_cut(group, orders[group.layer], after)]), judged, batch))
            for after in _widths(group, ratios)
        )
        scanned = GroupSensitivity(group.layer, group.before, points, "")
        found = replace(found, groups=tuple(scanned if old.layer == group.layer else old for old in found.groups))
        if state:
            write_atomic(state, found.to_json(), "the sensitivity scan")
        if on_progress:
            on_progress(number, len(prunable))
    return found


def _widths(group: Group, ratios: Sequence[float]) -> list[int]:
    """Channels left at each ratio, each width once, the widest first."""
    step = group.step(1)
    widths = {max(step, round((1 - ratio) * group.before / step) * step) for ratio in ratios}
    return sorted(widths - {group.before}, reverse=True)


def _cut(group: Group, order: Sequence[int], after: int) -> Group:
    return replace(group, keep=group.best(order, after))


def _judge(network: nn.Module, judged: Samples, batch: int) -> tuple[float, int]:
    """Mean cross entropy, and how many images are classified right."""
    network.eval()
    total, correct = 0.0, 0
    with torch.inference_mode():
        for part in judged.batches(batch):
            logits = answer(network, part)
            if logits.ndim != 2 or int(part.labels.max()) >= logits.shape[1] or int(part.labels.min()) < 0:
                raise errors.widths.no_class_for_label(int(part.labels.max()), logits.shape)
            total += float(F.cross_entropy(logits.double(), part.labels, reduction="sum"))
            correct += int((logits.argmax(dim=1) == part.labels).sum())
    if not math.isfinite(total):
        raise errors.widths.loss_is_no_number()
    return total / len(judged.labels), correct


def _key(
    model: nn.Module, judged: Samples, orders: Mapping[str, Sequence[int]], ratios: Sequence[float], batch: int
) -> str:
    arrays = (judged.inputs.contiguous(), judged.labels.contiguous())
    images = [sha256_bytes(array.numpy().tobytes()) for array in arrays]
    settings = [state_sha256(model), images, list(judged.inputs.shape), orders, sorted(ratios), batch]
    return sha256_bytes(json.dumps(settings).encode())


def _done(state: Path | None, key: str) -> dict[str, tuple[Point, ...]]:
    """Points of an earlier scan of the same `key`; none where there is none that can be read."""
    try:
        found = Sensitivity.from_json(state.read_bytes(), state) if state else None
    except (OSError, errors.EdgeLatheError):
        return {}
    return {group.layer: group.points for group in found.groups} if found and found.key == key else {}


def _nonsense(found: Sensitivity) -> str:
    """What makes a scan, read from a file, impossible; empty where nothing does."""
    if found.images < 1 or not 0 <= found.correct <= found.images:
        return f"correct must lie between 0 and the {found.images} images"
    for group in found.groups:
        widths = [point.after for point in group.points]
        if widths != sorted(set(widths), reverse=True) or any(not 0 < width < group.before for width in widths):
            return f"the points of {group.layer} must have descending widths below {group.before}"
        if any(not 0 <= point.correct <= found.images for point in group.points):
            return f"correct of {group.layer} must lie between 0 and the {found.images} images"
    return ""


_ADAPTER = TypeAdapter(Sensitivity)
