from __future__ import annotations

import pytest
import torch
from edgelathe.compress.augment import Draws, augment, draw
from hypothesis import given, settings
from hypothesis import strategies as st


def _by_hand(image: torch.Tensor, row: int, column: int, mirrored: bool, margin: int) -> torch.Tensor:
    height, width, channels = image.shape
    padded = torch.zeros(height + 2 * margin, width + 2 * margin, channels, dtype=torch.uint8)
    padded[margin : margin + height, margin : margin + width] = image
    crop = padded[row : row + height, column : column + width]
    return crop.flip(1) if mirrored else crop


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["shift", "crop-flip"]),
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_equals_padding_cropping_and_flipping_one_by_one(
    kind: str, height: int, width: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (5, height, width, channels), dtype=torch.uint8, generator=generator)
    draws = draw(kind, 5, height, width, generator)  # type: ignore[arg-type]
    assert draws is not None
    found = augment(images, draws)
    assert found.dtype == torch.uint8
    for number in range(5):
        wanted = _by_hand(
            images[number],
            int(draws.rows[number]),
            int(draws.columns[number]),
            bool(draws.mirrored[number]),
            draws.margin,
        )
        assert torch.equal(found[number], wanted)


def test_margin_is_4_of_32_pixels_and_all_shifts_occur() -> None:
    draws = draw("crop-flip", 4000, 32, 32, torch.Generator().manual_seed(0))
    assert draws is not None
    assert draws.margin == 4
    assert sorted(set(draws.rows.tolist())) == list(range(9))
    assert sorted(set(draws.columns.tolist())) == list(range(9))
    assert 0.45 < draws.mirrored.float().mean() < 0.55


def test_shift_never_mirrors() -> None:
    draws = draw("shift", 1000, 8, 8, torch.Generator().manual_seed(0))
    assert draws is not None
    assert draws.margin == 1
    assert not draws.mirrored.any()


def test_none_returns_the_same_pixels() -> None:
    images = torch.arange(48, dtype=torch.uint8).reshape(1, 4, 4, 3)
    assert draw("none", 1, 4, 4, torch.Generator()) is None
    assert augment(images, None) is images


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 5)])
def test_part_is_that_part_of_the_epoch(first: int, last: int) -> None:
    draws = Draws(torch.arange(5), torch.arange(5, 10), torch.tensor([True, False] * 2 + [True]), 2)
    part = draws.part(first, last)
    assert part.rows.tolist() == list(range(first, last))
    assert part.columns.tolist() == list(range(first + 5, last + 5))
    assert part.margin == 2
