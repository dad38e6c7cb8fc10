"""What brings the features of two layers to one shape: channels by a learned regressor, sizes by averaging."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def as_map(features: Tensor) -> Tensor:
    """float32 [N,C,H,W]; a vector [N,C] is a map of one pixel."""
    return features if features.ndim == 4 else features[:, :, None, None]


def as_vector(features: Tensor) -> Tensor:
    """float32 [N,C]: of a map, its mean over positions."""
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of equal height and width: the larger one is averaged down to the smaller, as in RepDistiller."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return _averaged(student, size), _averaged(teacher, size)


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size)


class Regressor(nn.Sequential):
    """A 1 x 1 convolution from the student's channels to the teacher's, [N,inputs,H,W] -> [N,outputs,H,W], which for
    vectors (maps of one pixel) is a linear layer.

    Batch norm follows it, as in RepDistiller: with the weight of hints, 100, plain regression diverges at the learning
    rates that networks want.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
