"""A teacher that need not be run in every step: where that is possible, and where it saves time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ... import errors
from ...data import Dataset
from ..augment import Augment
from ..mix import Mix
from ..objective import Batch, as_tensor, network_inputs
from ..options import TrainingOptions
from ..settings import check_settings
from ..train import train
from .frozen import folded
from .stored_answers import FOLDER, StoredAnswers, distinct_views, stored_answers
from .teachers import Teacher

StoreAnswers = bool | Literal["auto"]


@dataclass(frozen=True)
class StoredTeacher(Teacher):
    """Gives stored answers; its network is as it was."""

    answers: StoredAnswers

    def logits(self, batch: Batch) -> Tensor:
        """float32 [N, classes], less the largest of each row."""
        return self.answers(batch)

    def settings(self) -> Mapping[str, object]:
        return {**super().settings(), **self.answers.settings()}


def answering_teacher(
    teacher: Teacher,
    data: Dataset,
    *,
    store: StoreAnswers,
    loss: str,
    on_logits: bool,
    folder: Path | None,
    options: TrainingOptions,
) -> Teacher:
    """`teacher` as `loss` needs it in the training that `options` describe: with stored answers where `store` and
    `stores_answers` say so, else with its batch norms folded, if logits are all that is taken of it.

    folder -- where stored answers are kept; None: beside the checkpoint, or without one, as long as the result is.
    """
    assert data.train is not None, "check_fit refuses it"
    augment, views, mix = options.get("augment", "none"), options.get("views", 0), options.get("mix", "none")
    check_settings(**_settings(options))  # before hours may be spent on answers
    epochs = options["epochs"]
    if not stores_answers(store, loss=loss, on_logits=on_logits, augment=augment, views=views, epochs=epochs, mix=mix):
        if not on_logits:
            return teacher
        two = network_inputs(as_tensor(data.train.x[:2]), teacher.preprocess)
        return replace(teacher, network=folded(teacher.network, two))
    state = options.get("state")
    answers = stored_answers(
        teacher, data, augment=augment, views=views, seed=options.get("seed", 0),
        precision=options.get("precision", "auto"), threads=options.get("threads"),
        folder=folder or (state / FOLDER if state else None), progress=options.get("progress", True),
    )  # fmt: skip
    return StoredTeacher(**{part.name: getattr(teacher, part.name) for part in fields(Teacher)}, answers=answers)


def stores_answers(
    asked: StoreAnswers, *, loss: str, on_logits: bool, augment: Augment, views: int, epochs: int, mix: Mix
) -> bool:
    """Whether a distillation stores its teacher's answers; "auto": where it may, and some come up again.

    on_logits -- whether `loss` needs nothing of the teacher but its logits.

    Raises EdgeLatheError where it is asked to and cannot.
    """
    if asked not in (True, False, "auto"):
        raise errors.inputs.impossible_setting("store_answers", asked, 'true, false or "auto"')
    reasons = (
        (f'loss = "{loss}" needs more of the teacher than its logits', not on_logits),
        (f'mix = "{mix}" makes other images in every epoch', mix != "none"),
        ("views = 0 augments every epoch anew", augment != "none" and views == 0),
    )
    why = next((reason for reason, holds in reasons if holds), None)
    if asked is True and why:
        raise errors.answers.cannot_store(why)
    return asked is not False and why is None and (asked is True or distinct_views(augment, views) < epochs)


def _settings(options: TrainingOptions) -> dict[str, Any]:
    """What `check_settings` looks at, with the defaults of `train`."""
    usual = inspect.signature(train).parameters
    return {name: options.get(name, usual[name].default) for name in inspect.signature(check_settings).parameters}
