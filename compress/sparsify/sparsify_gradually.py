"""Weight pruning during training: zeros come one after the other, and what stays learns to do without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from ... import errors
from ...data import Dataset, Preprocess
from ..augment import Augment
from ..checkpoint import Epoch
from ..fit import check_fit
from ..objective import as_tensor, network_inputs
from ..schedule import Schedule
from ..train import TrainResult, train
from .gradual import Gradual
from .movement import Movement
from .names import check_gradual, keep_share
from .patterns import Scope
from .plan import Method, SparsityPlan
from .sparsify import choose_pattern, plan_from, refused, sparse_of
from .weights import find_weights

CRITERIA: dict[str, type[Gradual | Movement]] = {"magnitude": Gradual, "movement": Movement}
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
    epochs: int,
    batch: int = 128,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_norms: bool = True,
    schedule: Schedule = "cosine",
    warmup: float = 0.0,
    label_smoothing: float = 0.0,
    augment: Augment = "none",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    compiled: bool | Literal["auto"] = False,
    evaluate: Literal["last", "every"] = "last",
    seed: int = 0,
    threads: int | None = None,
    state: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = True,
    title: str = "sparsify",
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
        model, sparse_of(weights, pattern), name, keep=share, scope=scope, ramp=ramp * epochs
    )
    result = train(
        model, data, preprocess=preprocess, epochs=epochs, batch=batch, lr=lr, momentum=momentum,
        weight_decay=weight_decay, decay_norms=decay_norms, schedule=schedule, warmup=warmup,
        label_smoothing=label_smoothing, augment=augment, precision=precision, compiled=compiled, evaluate=evaluate,
        seed=seed, threads=threads, constraint=constraint, state=state, on_epoch=on_epoch, progress=progress,
        title=title,
    )  # fmt: skip
    plan = plan_from(
        model, weights, constraint.masks, pattern=pattern, scope=scope, method=_METHODS[criterion], keep=share
    )
    return result, plan
