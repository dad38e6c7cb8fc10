from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.distill.weighting.gap import Gap
from edgelathe.data import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_with_the_same_bits(
    blobs: Dataset, small_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    def run(folder: Path | None = None, on_epoch: Callable[[Epoch], None] | None = None) -> tuple[str, list[float]]:
        student, teacher = small_net(), small_net()
        result = distill(
            student, teacher, blobs, preprocess=blobs.preprocess, teacher_preprocess=blobs.preprocess, epochs=3,
            batch=16, augment="shift", precision="float32", weighting="gap", alpha_min=0.0, alpha_max=1.0,
            progress=False, state=folder, on_epoch=on_epoch,
        )  # fmt: skip
        return state_sha256(student), [epoch.logged["share_mean"] for epoch in result.epochs]

    def kill(point: Epoch) -> None:
        raise Killed

    undisturbed = run()
    with pytest.raises(Killed):
        run(tmp_path, kill)
    assert run(tmp_path) == undisturbed
    assert len(set(undisturbed[1])) == 3, "shares that stood still would show nothing"


def test_the_first_share_follows_from_the_first_batch_alone() -> None:
    # CE 1, KD 3: the labels' part is a quarter of both
    assert Gap()(0.5, torch.tensor([2.0, 4.0]), torch.tensor([0.5, 1.5])).item() == pytest.approx(0.25, rel=1e-6)


def test_running_means_by_hand() -> None:
    gap = Gap()
    gap(0.5, torch.tensor([3.0]), torch.tensor([1.0]))
    share = gap(0.5, torch.tensor([1.0]), torch.tensor([5.0]))
    taught, labelled = 0.99 * 0.03 + 0.01 * 1, 0.99 * 0.01 + 0.01 * 5
    assert gap.running.tolist() == pytest.approx([taught, labelled], rel=1e-9)
    assert share.item() == pytest.approx(labelled / (taught + labelled), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(alpha=st.floats(0.01, 0.99), soft=st.floats(1e-3, 1e3), hard=st.floats(1e-3, 1e3))
def test_both_parts_of_the_loss_stand_as_alpha_says(alpha: float, soft: float, hard: float) -> None:
    share = Gap()(alpha, torch.tensor([soft]).double(), torch.tensor([hard]).double()).item()
    assert share * soft * (1 - alpha) == pytest.approx((1 - share) * hard * alpha, rel=1e-6)


def test_without_any_loss_alpha_is_the_share() -> None:
    assert Gap()(0.3, torch.zeros(2), torch.zeros(2)).item() == 0.3


def test_the_state_is_in_the_state_dict_and_no_gradient_flows() -> None:
    gap, soft = Gap(), torch.tensor([2.0], requires_grad=True)
    assert not gap(0.5, soft, torch.tensor([1.0])).requires_grad
    restored = Gap()
    restored.load_state_dict(gap.state_dict())
    assert torch.equal(restored.running, gap.running) and gap.running[0] > 0
    assert list(gap.parameters()) == []
