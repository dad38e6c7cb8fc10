"""Channel pruning."""

from __future__ import annotations

from collections.abc import Iterable

from .base import EdgeLatheError
from .inputs import nearest


def foreign_plan(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the pruning plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def cannot_trace(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot follow the channels through the network: {why}; prune another network, or leave pruning out."
    )


def nothing_prunable(reasons: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune channels of this network: no group of channels may be cut ({_some(reasons)}); leave pruning out."
    )


_TARGETS = {"keep_macs": "MACs", "keep_params": "parameters"}


def unreachable(key: str, keep: float, least: float, left: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to {keep:.1%} of the {_TARGETS[key]}: with every prunable layer at its narrowest {least:.1%} "
        f"remain ({_some(left)}); raise {key} or lower multiple."
    )


def unreachable_latency(keep: float, least: float, left: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to {keep:.1%} of the latency: down to the narrowest widths, the least that was measured is "
        f"{least:.1%} ({_some(left)}); raise keep_latency."
    )


def several_targets(keys: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to several targets at once ({', '.join(keys)}): one decides; keep one of them."
    )


def several_targets_in_stage(stage: int, keys: Iterable[str]) -> str:
    """Why a recipe cannot run; `recipe_errors.explain` puts the recipe's name before it."""
    return f"stages.{stage} (prune-channels) has {' and '.join(keys)}, and one target decides; keep one of them"


def idle_latency_of(stage: int) -> str:
    return (
        f"stages.{stage} (prune-channels) has latency_of, and nothing is measured; add keep_latency or"
        ' multiple = "auto", or leave it out'
    )


def nothing_measures(setting: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune with {setting}: it takes measurements on the target runtime, and nothing measures; "
        "give measure, a function from a network to its latency."
    )


def bad_measurement(latency: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to a latency: measure returned {latency}, and a latency is a number above 0; mend measure."
    )


def bad_importance(layer: str, channels: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rank the channels of {layer}: the criterion must return {channels} finite numbers; "
        "mend the criterion or the weights."
    )


def unknown_evidence(criterion: str, parameter: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot call the criterion {criterion}: its parameter "{parameter}" is nothing that a criterion can look at; '
        f"{nearest(parameter, valid)}"
    )


def unreadable_criterion(criterion: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot call the criterion {criterion}: its parameters do not say what it looks at; "
        f"name one or more of them: {', '.join(valid)}."
    )


def samples_needed(criterion: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rank channels by {criterion}: it looks at what training images do in the network, and there are none; "
        "give samples, or choose a criterion that looks at weights alone (fpgm, l1, l2)."
    )


def bad_samples(inputs: Iterable[int], labels: Iterable[int]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use samples with inputs {list(inputs)} and labels {list(labels)}: "
        "give float inputs [N,C,H,W] and int64 labels [N], one or more."
    )


def labels_without_logits(highest: int, logits: Iterable[int]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot take gradients for samples with labels up to {highest} from outputs of shape {list(logits)}: "
        "the network must return one logit for each class; give samples with labels of its own classes."
    )


def layer_without_maps(layer: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot look at the feature maps of {layer}: the network uses its weights without calling it; "
        "name it in ignore, or choose a criterion that looks at weights (fpgm, l1, l2)."
    )


def no_batch_norms(criterion: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rank channels by {criterion}: no channels that can be cut have a batch norm behind them; "
        "choose a criterion that looks at weights (fpgm, l1, l2)."
    )


def _some(reasons: Iterable[str]) -> str:
    listed = list(reasons)
    more = f"; and {len(listed) - 2} more" if len(listed) > 2 else ""
    return "; ".join(listed[:2]) + more if listed else "nothing was left alone"
