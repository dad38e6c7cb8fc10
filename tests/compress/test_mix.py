from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.mix import Mix, mixed
from edgelathe.compress.objective import Batch, CrossEntropy
from edgelathe.data import Preprocess
from hypothesis import given
from hypothesis import strategies as st


def _flat(count: int, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Image number i is all i + 1, its label i."""
    labels = torch.arange(count)
    return (labels + 1).to(torch.uint8)[:, None, None, None].expand(count, side, side, 3).contiguous(), labels


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_none_is_the_same_images_and_draws_nothing() -> None:
    images, labels = _flat(4)
    generator = _generator(0)
    before = generator.get_state()
    found, mixing = mixed("none", images, labels, 0.2, generator)
    assert found is images
    assert mixing is None
    assert torch.equal(generator.get_state(), before)


@given(seed=st.integers(0, 2**31), strength=st.sampled_from([0.05, 0.2, 1.0, 8.0]))
def test_mixup_blends_pixels_in_the_shares_of_the_labels(seed: int, strength: float) -> None:
    images, labels = _flat(12)
    images *= 20
    found, mixing = mixed("mixup", images, labels, strength, _generator(seed))
    assert mixing is not None
    assert found.dtype == torch.uint8
    assert mixing.partners.sort().values.tolist() == labels.tolist()
    wanted = 20 * (mixing.shares * (labels + 1) + (1 - mixing.shares) * (mixing.partners + 1))
    assert torch.all((found.float() - wanted[:, None, None, None]).abs() <= 0.5 + 1e-4)
    assert torch.all((mixing.shares >= 0) & (mixing.shares <= 1))


@given(seed=st.integers(0, 2**31), height=st.integers(1, 9), width=st.integers(1, 9))
def test_cutmix_puts_in_one_rectangle_of_the_partner_and_counts_its_pixels(seed: int, height: int, width: int) -> None:
    labels = torch.arange(10)
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(10, height, width, 1).contiguous()
    found, mixing = mixed("cutmix", images, labels, 1.0, _generator(seed))
    assert mixing is not None
    for image, own, partner, share in zip(found, labels, mixing.partners, mixing.shares, strict=True):
        foreign = image[..., 0] != own + 1
        assert set(image[foreign].unique().tolist()) <= {int(partner) + 1}
        rows, columns = foreign.any(dim=1), foreign.any(dim=0)
        assert torch.equal(foreign, rows[:, None] & columns), "a rectangle"
        for line in (rows, columns):
            assert int((line.int().diff() != 0).sum()) <= 2, "of pixels side by side"
        if own != partner:
            assert float(share) == pytest.approx(1 - foreign.float().mean().item(), abs=1e-6)


@pytest.mark.parametrize(("strength", "variance"), [(0.2, 0.25 / 1.4), (1.0, 1 / 12), (8.0, 0.25 / 17)])
def test_shares_are_from_a_beta_distribution(strength: float, variance: float) -> None:
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    images, labels = _flat(20_000, side=1)
    _, mixing = mixed("mixup", images.float(), labels, strength, _generator(1))
    assert mixing is not None
    assert float(mixing.shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(mixing.shares.var()) == pytest.approx(variance, rel=0.03)


def test_floats_are_not_rounded() -> None:
    images, labels = _flat(6)
    found, mixing = mixed("mixup", images.float(), labels, 1.0, _generator(3))
    assert mixing is not None
    wanted = mixing.shares * (labels + 1) + (1 - mixing.shares) * (mixing.partners + 1)
    torch.testing.assert_close(found[:, 0, 0, 0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_loss_is_that_of_labels_in_their_shares(kind: Mix) -> None:
    images, labels = _flat(5)
    found, mixing = mixed(kind, images, labels, 1.0, _generator(2))
    assert mixing is not None
    logits = torch.randn(5, 5, generator=_generator(4))
    own = Preprocess((0.0,) * 3, (1.0,) * 3)
    batch = Batch(logits, labels, found, found.float(), own, contextlib.nullcontext, labels, mixing=mixing)
    shares = mixing.shares[:, None]
    soft = shares * F.one_hot(labels, 5) + (1 - shares) * F.one_hot(mixing.partners, 5)
    wanted = -(soft * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(batch.label_loss(logits), wanted, rtol=1e-5, atol=1e-6)
    assert CrossEntropy()(batch).item() == pytest.approx(wanted.mean().item(), rel=1e-5)
    smoothed = -((0.9 * soft + 0.1 / 5) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(batch.label_loss(logits, 0.1), smoothed, rtol=1e-5, atol=1e-6)
