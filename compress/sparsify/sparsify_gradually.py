"""Weight pruning during training: zeros come one after the other, and what stays learns to do without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

from torch import nn

from ... import errors
from ...data import Dataset, Preprocess
from ..fit import check_fit
from ..objective import as_tensor, network_inputs
from ..options import FloatOptions, TrainingOptions
from ..train import TrainResult, train
from .gradual import Gradual
from .movement import Movement
from .names import check_gradual, keep_share
from .patterns import Scope
from .plan import Method, SparsityPlan
from .sparsify import choose_pattern, plan_from, refused, sparse_of
from .weights import find_weights

CRITERIA: dict[str, type[Gradual | Movement]] = {"magnitude": Gradual, "movement": Movement}
DEFAULTS: TrainingOptions = {"lr": 0.05, "title": "sparsify"}
"""Where they are not those of `train`."""

_METHODS: dict[str, Method] = {"magnitude": "gradual", "movement": "movement"}


def sparsify_gradually(
    model: nn.Module,
    data: Dataset,
    *,
    preprocess: Preprocess,
    pattern: str = "unstructured",
    keep: float | None = None,
    scope: Scope = "global",
    criterion: Literal["magnitude", "movement"] = "magnitude",
    ramp: float = 0.5,
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    **training: Unpack[FloatOptions],
) -> tuple[TrainResult, SparsityPlan]:
    """Train `model` in place while weights become zeros; how the training went, and what is zero now.

    criterion -- "magnitude": the smallest weights go (Zhu & Gupta 2017); "movement": those that training moves towards
                 zero (Sanh et al. 2020).
    ramp      -- share of the epochs over which the share that stays falls to `keep`, along a cubic (ramp.py).
    `pattern`, `keep`, `scope`, `only` and `ignore` are those of `plan_sparsity`, the other keywords those of `train`.

    Raises what these two raise, and EdgeLatheError for a pattern that cannot come gradually (strided).
    """
    name, chosen = choose_pattern(pattern, scope)
    share = keep_share(name, keep)
    check_gradual(name)
    if criterion not in CRITERIA:
        raise errors.inputs.unknown_choice("criterion", criterion, CRITERIA)
    if not 0 < ramp <= 1:
        raise errors.inputs.impossible_setting("ramp", ramp, "above 0 and at most 1")
    check_fit(model, data, preprocess)
    example = network_inputs(as_tensor(data.test.x[:1]), preprocess)
    weights = refused(find_weights(model, example, only, ignore), chosen)
    constraint = CRITERIA[criterion](
        model, sparse_of(weights, pattern), name, keep=share, scope=scope, ramp=ramp * training["epochs"]
    )
    options: TrainingOptions = {**DEFAULTS, **training, "constraint": constraint}
    result = train(model, data, preprocess=preprocess, **options)
    plan = plan_from(
        model, weights, constraint.masks, pattern=pattern, scope=scope, method=_METHODS[criterion], keep=share
    )
    return result, plan
