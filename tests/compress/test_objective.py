from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.objective import Batch, CrossEntropy, as_tensor, network_inputs
from edgelathe.data import Preprocess


def test_inputs_equal_those_of_the_deployed_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    preprocess = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = network_inputs(torch.from_numpy(pixels), preprocess)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), preprocess(pixels), rtol=0, atol=1e-6)


def test_read_only_arrays_are_viewed_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    array = np.arange(6, dtype=np.uint8)
    array.flags.writeable = False
    assert as_tensor(array).tolist() == [0, 1, 2, 3, 4, 5]
    assert as_tensor(array).data_ptr() == array.ctypes.data
    assert not recwarn.list


def test_cross_entropy_smooths_labels() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([1])
    pixels = torch.zeros(1, 2, 2, 1, dtype=torch.uint8)
    own = Preprocess((0.0,), (1.0,))
    batch = Batch(logits, labels, pixels, network_inputs(pixels, own), own, contextlib.nullcontext, torch.tensor([0]))
    probabilities = logits.softmax(dim=1).log()[0]
    wanted = -(0.9 * probabilities[1] + 0.1 * probabilities.mean())
    assert CrossEntropy(0.1)(batch).item() == pytest.approx(wanted.item(), abs=1e-6)
    assert CrossEntropy()(batch).item() == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-7)


def test_another_network_gets_the_same_pixels_in_its_own_normalisation() -> None:
    pixels = torch.full((1, 2, 2, 1), 51, dtype=torch.uint8)
    own, other = Preprocess((0.0,), (1.0,)), Preprocess((0.1,), (0.5,))
    inputs = network_inputs(pixels, own)
    batch = Batch(torch.zeros(1, 2), torch.tensor([0]), pixels, inputs, own, contextlib.nullcontext, torch.tensor([0]))
    assert batch.inputs_for(Preprocess((0.0,), (1.0,))) is inputs
    assert torch.allclose(batch.inputs_for(other), torch.full((1, 1, 2, 2), 0.2), rtol=0, atol=1e-7)
