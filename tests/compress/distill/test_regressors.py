from __future__ import annotations

import torch
from edgelathe.compress.distill.regressors import Regressor, as_map, as_vector, same_size


def test_vectors_are_maps_of_one_pixel_and_maps_are_vectors_by_their_means() -> None:
    maps = torch.arange(16.0).view(1, 2, 2, 4)
    assert as_vector(maps).tolist() == [[3.5, 11.5]]
    assert as_map(maps) is maps
    assert torch.equal(as_vector(as_map(maps[:, :, 0, 0])), maps[:, :, 0, 0])


def test_the_larger_map_is_averaged_to_the_smaller() -> None:
    large, small = torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 3, 2, 2)
    student, teacher = same_size(large, small)
    assert student.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert teacher is small
    assert torch.equal(same_size(small, large)[1], student)
    student, teacher = same_size(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 2, 4))
    assert student.shape == teacher.shape == (1, 1, 2, 2)


def test_regressor_brings_channels_to_those_of_the_teacher() -> None:
    assert Regressor(3, 5)(torch.ones(4, 3, 2, 2)).shape == (4, 5, 2, 2)
    assert Regressor(3, 5)(torch.ones(4, 3, 1, 1)).shape == (4, 5, 1, 1)
