"""How much of each image's loss comes from the teacher, the rest coming from the label.

    L_i = a_i soft_i + (1 - a_i) hard_i

    fixed       a_i = alpha                                    Hinton et al. 2015
    accuracy    a_i = alpha acc / (alpha acc + 1 - alpha)      reconstruction of Zhao et al. 2022
    confidence  a_i = alpha p_T(y_i | x_i) / mean              reconstruction of AKGP (IJCESEN 944)
    agreement   a_i = alpha [ argmax t_i = y_i ] / mean
    entropy     a_i = alpha (1 - H(t_i) / log C) / mean
    gap         a_i = alpha CE / (alpha CE + (1 - alpha) KD)   by running means of both losses

All but fixed are clamped to [alpha_min, alpha_max]. The mean is that of the data set (statistics.py), so that alpha
stays the usual share of the teacher: without it, a teacher that is almost always right on its own training images
would leave nothing to the labels. Where labels are mixed, a score is the mixture of the scores of both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ...objective import Batch
from .accuracy import accuracy_share
from .gap import Gap
from .names import HIGHEST, LOWEST
from .rules import SCORES, score
from .statistics import TeacherStatistics


class TeacherShare(nn.Module):
    """The rule of one training, with what it has found out of the teacher and, for "gap", of both losses so far."""

    def __init__(
        self,
        weighting: str,
        *,
        alpha: float,
        temperature: float = 4.0,
        alpha_min: float = LOWEST,
        alpha_max: float = HIGHEST,
        statistics: TeacherStatistics | None = None,
        teacher_accuracy: float | None = None,
    ) -> None:
        """`statistics` is needed where the rule scores images, and for "accuracy" unless that is stated."""
        super().__init__()
        self.weighting, self.alpha, self.temperature = weighting, alpha, temperature
        self.alpha_min, self.alpha_max, self.statistics = alpha_min, alpha_max, statistics
        self.teacher_accuracy = teacher_accuracy
        if weighting == "accuracy" and teacher_accuracy is None:
            assert statistics is not None
            self.teacher_accuracy = statistics.agreement
        self.gap = Gap() if weighting == "gap" else None
        self._shares: list[Tensor] = []

    @property
    def needs_state(self) -> bool:
        """Whether a checkpoint has to hold it."""
        return self.gap is not None

    def settings(self) -> Mapping[str, object]:
        """All that the shares depend on, as JSON values."""
        found: dict[str, object] = {"weighting": self.weighting, "alpha": self.alpha}
        if self.weighting != "fixed":
            found |= {"alpha_min": self.alpha_min, "alpha_max": self.alpha_max}
        if self.weighting in SCORES:
            found["score_temperature"] = self.temperature
        return found | self._judged_by()

    def _judged_by(self) -> dict[str, float]:
        """What is known of the teacher, by name."""
        if self.weighting == "accuracy":
            assert self.teacher_accuracy is not None
            return {"teacher_accuracy": self.teacher_accuracy}
        if self.weighting in SCORES:
            assert self.statistics is not None
            return {"mean_score": self.statistics.mean_score(self.weighting)}
        return {}

    def forward(self, batch: Batch, answers: Tensor, soft: Tensor, hard: Tensor) -> Tensor:
        """Share of the teacher, float32 [N] without gradient.

        answers    -- logits of the teacher, float32 [N, classes].
        soft, hard -- the two parts of the loss per image, float32 [N].
        """
        with torch.no_grad():
            share = self._share(batch, answers, soft, hard).float()
            if self.weighting != "fixed":
                share = share.clamp(self.alpha_min, self.alpha_max)
            self._shares.append(share)
        return share

    def _share(self, batch: Batch, answers: Tensor, soft: Tensor, hard: Tensor) -> Tensor:
        count = len(batch.labels)
        if self.gap is not None:
            return self.gap(self.alpha, soft, hard).expand(count)
        if self.weighting in SCORES:
            scores = score(self.weighting, answers, batch.labels, self.temperature, batch.mixing)
            return self.alpha * scores / self._judged_by()["mean_score"]
        if self.teacher_accuracy is not None:
            return torch.full((count,), accuracy_share(self.alpha, self.teacher_accuracy))
        return torch.full((count,), self.alpha)

    def logged(self) -> Mapping[str, float]:
        """The teacher's share over all images since this was last asked: mean, extremes and quartiles; and what was
        measured of the teacher."""
        if not self._shares:
            return {}
        shares = torch.cat(self._shares).numpy()
        self._shares.clear()
        first, third = np.quantile(shares, (0.25, 0.75))
        return {
            "share_mean": float(shares.mean(dtype=np.float64)),
            "share_min": float(shares.min()),
            "share_max": float(shares.max()),
            "share_q1": float(first),
            "share_q3": float(third),
            **self._judged_by(),
        }
