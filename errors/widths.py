"""Widths stated by hand, the scan that they are chosen by, and pruning in steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError
from .inputs import nearest


def no_class_for_label(label: int, shape: Iterable[int]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot judge the network by images with labels up to {label} from outputs of shape {list(shape)}: it must"
        " return one logit for each class; give images of its own classes."
    )


def loss_is_no_number() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot judge the network: its loss on these images is no finite number; mend its weights or the images."
    )


def foreign_scan(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot choose widths of this network by the sensitivity scan of another: {why}; scan this one."
    )


def beyond_the_scan(keep: float, least: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot choose widths for {keep:.1%} of the MACs: with every group as narrow as it was scanned {least:.1%}"
        " remain; scan larger ratios or raise keep_macs."
    )


def no_width(layer: str, width: object, before: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the width {width} for {layer}: it must be a count of channels from 1 to {before}, or a share of"
        " them above 0 and at most 1, written with a point."
    )


def uneven_blocks(layer: str, width: int, blocks: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot give {layer} {width} channels: they fall into {blocks} blocks that must keep equally many (a grouped"
        f" convolution, a group norm or attention heads); state a multiple of {blocks}."
    )


def cannot_narrow(layer: str, width: int, before: int, reason: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot narrow {layer} from {before} to {width} channels, because {reason}; leave it out of the widths."
    )


def different_widths(one: str, width: int, other: str, different: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot give {one} {width} channels and {other} {different}: their channels live and die together; state one"
        " width for both, or for one of them."
    )


def no_pruning_stage(recipe: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot plan widths for the recipe {recipe}: it has no stage that prunes channels; add one, do ="
        ' "prune-channels", or leave --scan and --output out.'
    )


def scan_for_another_target(key: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot choose widths by a sensitivity scan for {key}: it weighs what is lost against MACs; give keep_macs."
    )


def bad_widths_file(path: Path, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the widths in {path}: {why}; write a table [widths] of lines such as"
        ' "layer1.0.conv1" = 8 (channels) or 0.5 (a share of them).'
    )


def unknown_table(path: Path, name: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'Unknown key "{name}" in {path}: {nearest(name, valid)}')


def steps_without_recovery(stage: int, steps: int) -> str:
    """Why a recipe cannot run; `recipe_errors.explain` puts the recipe's name before it."""
    return (
        f"stages.{stage} (prune-channels) has steps = {steps}, and no stage that trains follows it directly; let train"
        " or distill follow, which then recovers after each step, or leave steps out"
    )


def steps_of_stated_widths(stage: int) -> str:
    return (
        f"stages.{stage} (prune-channels) has both steps and widths; state the widths of each step in a stage of its"
        " own, or leave steps out"
    )


def widths_beside_target(stage: int, key: str) -> str:
    return f"stages.{stage} (prune-channels) has both widths and {key}, and the widths decide; leave one of them out"
