from __future__ import annotations

from typing import Any

import pytest
import torch
from edgelathe.compress.augment import augment, view_draws
from edgelathe.compress.batches import Share, TrainingImages
from edgelathe.compress.parallel import ALONE, Team


def _images(**settings: Any) -> TrainingImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8, generator=generator)
    defaults: dict[str, Any] = {
        "images": images, "labels": torch.arange(20) % 4, "batch": 6, "augment": "crop-flip", "views": 0,
        "mix": "none", "mix_strength": 1.0, "seed": 5, "team": ALONE,
    }  # fmt: skip
    return TrainingImages(**defaults | settings)


def _by_number(shares: list[Share]) -> dict[int, torch.Tensor]:
    return {int(number): image for share in shares for number, image in zip(share.numbers, share.images, strict=True)}


def test_an_epoch_sees_each_image_once_with_its_own_label() -> None:
    images = _images(batch=5)
    numbers = torch.cat([share.numbers for share in images.epoch(1)])
    assert numbers.sort().values.tolist() == list(range(20))
    assert all(torch.equal(share.labels, share.numbers % 4) for share in images.epoch(1))
    assert [share.of_batch for share in images.epoch(1)] == [1.0] * 4
    again = torch.cat([share.numbers for share in images.epoch(1)])
    other = torch.cat([share.numbers for share in images.epoch(2)])
    assert torch.equal(numbers, again)
    assert not torch.equal(numbers, other)


def test_views_repeat_bit_by_bit_and_can_be_made_without_the_training() -> None:
    images = _images(batch=5, views=2)
    epochs = [list(images.epoch(number)) for number in (1, 2, 3)]
    assert [[share.view for share in epoch] for epoch in epochs] == [[0] * 4, [1] * 4, [0] * 4]
    first, second, third = map(_by_number, epochs)
    assert [int(number) for share in epochs[0] for number in share.numbers] != [
        int(number) for share in epochs[2] for number in share.numbers
    ], "the order does not repeat"
    assert all(torch.equal(first[number], third[number]) for number in range(20))
    assert any(not torch.equal(first[number], second[number]) for number in range(20))
    made = augment(images.images, view_draws("crop-flip", 20, 8, 8, seed=5, view=1))
    assert all(torch.equal(second[number], made[number]) for number in range(20))


def test_without_views_every_epoch_is_a_new_one() -> None:
    images = _images(batch=5)
    assert [next(iter(images.epoch(number))).view for number in (1, 2, 30)] == [0, 1, 29]


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("views", [0, 2])
def test_shares_of_processes_are_the_batch_of_one(mix: str, views: int) -> None:
    whole = list(_images(mix=mix, views=views, batch=7).epoch(3))
    parts = [list(_images(mix=mix, views=views, batch=7, team=Team(rank, 3)).epoch(3)) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for name in ("numbers", "labels", "images"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(share, name) for share in shares])), name
        assert [share.of_batch for share in shares] == [2 / 7, 2 / 7, 3 / 7]
        if mix != "none":
            assert batch.mixing is not None
            assert torch.equal(batch.mixing.shares, torch.cat([share.mixing.shares for share in shares]))
            assert torch.equal(batch.mixing.partners, torch.cat([share.mixing.partners for share in shares]))


def test_mixing_leaves_order_and_augmentation_as_they_are() -> None:
    plain, mixed = list(_images().epoch(1)), list(_images(mix="cutmix").epoch(1))
    for before, after in zip(plain, mixed, strict=True):
        assert torch.equal(before.numbers, after.numbers)
        assert after.mixing is not None
        untouched = after.mixing.shares == 1
        assert torch.equal(before.images[untouched], after.images[untouched])
