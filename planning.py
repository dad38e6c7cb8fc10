"""`edgelathe plan`: what a recipe would do, widths by a sensitivity scan if asked for, and a file of them to edit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import dryrun, errors
from .bench.units import in_count
from .dryrun import Plan, PlannedWidth, ScannedWidth
from .files import write_atomic
from .pipeline import begin
from .recipe import Recipe
from .recipe_stages import DECIDED_BY_WIDTHS, PruneChannels
from .runfolder import locked
from .steps.networks import carried_out
from .steps.steps import Steps
from .widthsfile import widths_text

if TYPE_CHECKING:
    from .compress.prune.sensitivity import Sensitivity

SCAN = "sensitivity.json"


def plan(
    recipe: Recipe,
    *,
    scan: bool = False,
    images: int = 512,
    measure: Literal["loss", "accuracy"] = "loss",
    output: Path | None = None,
    runs: Path | str = "runs",
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """What `recipe` would lead to; with `output`, the widths of its first prune-channels stage go to that file.

    With `scan`, the stages before that one are carried out in the run's folder, where the run finds them finished, and
    its widths are those that a scan of the network chooses for keep_macs, judged on `images` training images; the scan
    stays in the folder, and is continued there after a kill. Without, nothing is trained or kept.

    Raises EdgeLatheError as the run and the scan do, and where there is no stage that prunes channels.
    """
    number = next((n for n, stage in enumerate(recipe.stages) if isinstance(stage, PruneChannels)), None)
    if number is None:
        if scan or output is not None:
            raise errors.widths.no_pruning_stage(recipe.name)
        return dryrun.plan(recipe)
    if scan:
        made = _scanned(recipe, number, images, measure, Path(runs), say, progress, on_progress)
    else:
        made = dryrun.plan(recipe)
    if output is not None:
        write_atomic(output, _text(made, recipe, number), "the widths")
    return made


def _scanned(
    recipe: Recipe,
    number: int,
    images: int,
    measure: Literal["loss", "accuracy"],
    runs: Path,
    say: Callable[[str], None],
    progress: bool,
    on_progress: Callable[[int, int], None] | None,
) -> Plan:
    from .compress.prune.allocate import allocate, check_allocation
    from .compress.prune.macs import layer_costs
    from .compress.prune.sensitivity import scan_sensitivity
    from .compress.prune.targets import KEYS, one_target
    from .compress.prune.trace import trace_groups
    from .stages.pruning import samples_for, samples_of

    stage = recipe.stages[number]
    assert isinstance(stage, PruneChannels)
    key, keep = one_target(**{key: value for key, value in dict(stage).items() if key in KEYS})
    if key != "keep_macs":
        raise errors.widths.scan_for_another_target(key)
    check_allocation(keep, measure, stage.multiple)
    _, data = begin(recipe)
    folder = runs / recipe.name
    with locked(folder):
        _, network = carried_out(Steps(recipe, data, folder, say, progress), recipe.stages[:number])
        example, seed = network.example(data), recipe.seed
        found = scan_sensitivity(
            network.model,
            example,
            samples_of(data.calibration(images, seed), network),
            criterion=stage.criterion,
            ignore=stage.ignore,
            seed=seed,
            samples=samples_for(stage, network, data, seed),
            state=folder / SCAN,
            on_progress=on_progress,
        )
    widths = allocate(
        trace_groups(network.model, example, stage.ignore),
        layer_costs(network.model, example),
        found,
        keep_macs=keep,
        measure=measure,
        multiple=stage.multiple,
    )
    made = dryrun.plan(_with_widths(recipe, number, widths))
    note = (
        f"Widths by a scan of {found.images} training images, kept in {folder / SCAN}: each group alone narrowed by"
        f" {found.criterion}, nothing trained and no batch norm measured again; loss {found.loss:.4f}, accuracy"
        f" {found.correct / found.images:.1%} of the whole network."
    )
    widths_found = tuple(_with_scan(width, found) for width in made.widths)
    return made.model_copy(update={"widths": widths_found, "note": made.note.removesuffix(dryrun.NOTHING_DONE) + note})


def _with_widths(recipe: Recipe, number: int, widths: Mapping[str, int]) -> Recipe:
    stage = recipe.stages[number]
    defaults = {key: PruneChannels.model_fields[key].default for key in ("steps", *DECIDED_BY_WIDTHS)}
    stated = stage.model_copy(update={**defaults, "widths": dict(widths)})
    return recipe.model_copy(update={"stages": (*recipe.stages[:number], stated, *recipe.stages[number + 1 :])})


def _with_scan(width: PlannedWidth, found: Sensitivity) -> PlannedWidth:
    points = next((group.points for group in found.groups if group.layer == width.layer), ())
    scanned = tuple(
        ScannedWidth(after=point.after, loss=found.lost(point, "loss"), right=-found.lost(point, "accuracy"))
        for point in points
    )
    return width.model_copy(update={"scanned": scanned})


def _text(made: Plan, recipe: Recipe, number: int) -> str:
    """The widths file: a line for each group that loses channels, and as comments those that keep all."""
    before, after = made.pruned_macs or (0, 0)
    head = [
        f"Channels that stay in each group of {recipe.name}; for the key widths of stages.{number} (prune-channels).",
        "A whole number is a count of channels, a number with a point a share of them; layers left out keep all.",
        f"As written, {in_count(after)} of {in_count(before)} MACs remain.",
    ]
    narrowed = [(width.layer, width.after, _remark(width)) for width in made.widths if width.after < width.before]
    whole = [width for width in made.widths if width.after == width.before]
    left = [f"{json.dumps(width.layer, ensure_ascii=False)} = {width.before}  # {_remark(width)}" for width in whole]
    return widths_text(narrowed, head, left)


def _remark(width: PlannedWidth) -> str:
    scanned = ", ".join(f"{point.loss:+.4f} at {point.after}" for point in width.scanned)
    parts = (f"of {width.before}", width.reason, f"loss {scanned}" if scanned else "")
    return "; ".join(part for part in parts if part)
