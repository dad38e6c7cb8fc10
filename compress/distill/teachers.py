"""What a student learns from: frozen networks and ONNX files, each with its own normalisation and input size.

A teacher is a module that takes the student's augmented pixels, normalised by its own figures, and gives logits. Where
it wants images of another size, they are resized bilinearly (antialiased where they shrink) after normalisation, which
is the same as before it: both are linear, and the weights of the resizing sum to one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import errors
from ...data import Dataset, Preprocess
from ..checkpoint import state_sha256
from ..objective import Batch, as_tensor, network_inputs
from .onnx_network import Layout, OnnxNetwork


@dataclass(frozen=True)
class Teacher:
    """Frozen, in eval mode; made by `as_teacher`."""

    name: str
    network: nn.Module
    """Takes float32 [N, C, H, W] of the data's size."""
    preprocess: Preprocess
    sha256: str
    """Over its tensors; of an ONNX file, over the model."""

    @property
    def has_maps(self) -> bool:
        """Whether feature maps can be taken: an ONNX file gives its logits alone."""
        return not any(isinstance(module, OnnxNetwork) for module in self.network.modules())

    def logits(self, batch: Batch) -> Tensor:
        """float32 [N, classes] without gradients, of the pixels that the student saw."""
        return batch.run(self.network, self.preprocess)

    def settings(self) -> Mapping[str, object]:
        """All that its answers depend on, as JSON values."""
        return {
            "sha256": self.sha256,
            "mean": list(self.preprocess.mean),
            "std": list(self.preprocess.std),
        }


class ResizedInputs(nn.Module):
    """`network` on images brought to `size` (height, width); its layers are named with `network.` before them."""

    size: Tensor
    """A buffer, so that the hash of a network's tensors tells sizes apart."""

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self._target = size
        self.register_buffer("size", torch.tensor(size, dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        resized: Tensor = self.network(F.interpolate(images, size=self._target, mode="bilinear", antialias=True))
        return resized


def as_teacher(name: str, network: nn.Module, preprocess: Preprocess) -> Teacher:
    """A frozen copy of `network`, which stays as it was."""
    frozen = copy.deepcopy(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Teacher(name, frozen, preprocess, state_sha256(network))


def at_size(network: nn.Module, images: tuple[int, int], wanted: tuple[int, int] | None) -> nn.Module:
    """`network` as one that takes `images` (height, width) and sees them as `wanted`; None: as they are."""
    return network if wanted in (None, images) else ResizedInputs(network, wanted or images)


def onnx_teacher(
    path: Path | str,
    shape: tuple[int, int, int],
    *,
    size: tuple[int, int] | None = None,
    layout: Layout | None = None,
) -> nn.Module:
    """The ONNX file `path` as a module that takes float32 [N, *shape], with shape (C, H, W).

    size   -- height and width that a file wants which declares none; default: those of `shape`.
    layout -- where its channels are, if it does not declare that either.

    Raises EdgeLatheError for a file that is missing or damaged, that cannot take such images, or that does not answer
    with finite logits: probabilities are refused, because softening them by a temperature would be something else.
    """
    file = OnnxNetwork(path, channels=shape[0], layout=layout)
    if size is not None and file.size is not None and size != file.size:
        raise errors.teachers.other_size(file.path, size, file.size)
    network = at_size(file, shape[1:], file.size or size)
    _check_answers(file.path, network, shape)
    return network


def _check_answers(path: Path, network: nn.Module, shape: tuple[int, int, int]) -> None:
    noise = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    try:
        answers = network(noise)
    except Exception as reason:  # onnxruntime's errors share no base class below Exception
        why = f"it does not run on images of {shape[1]} x {shape[2]} ({str(reason).splitlines()[0]})"
        raise errors.teachers.unusable_file(path, why, "set size to that of the images it was made for") from reason
    if answers.ndim != 2 or len(answers) != 2:
        why = f"to 2 images it answers with {list(answers.shape)}"
        raise errors.teachers.unusable_file(path, why, "its first output must be logits [N, classes]")
    if not torch.isfinite(answers).all():
        raise errors.teachers.unusable_file(path, "its answers are not finite", "mend or leave it out")
    if (answers >= 0).all() and torch.allclose(answers.sum(dim=1), torch.ones(2), rtol=0, atol=1e-3):
        raise errors.teachers.unusable_file(
            path, "it answers with probabilities", "export it without the softmax at its end"
        )


def check_teachers(teachers: Sequence[Teacher], data: Dataset, logits: int) -> None:
    """Raises EdgeLatheError, naming the teacher, where one does not take the images or knows other classes."""
    if not teachers:
        raise errors.teachers.none_given()
    two = as_tensor(data.test.x[:2])
    for teacher in teachers:
        try:
            with torch.no_grad():
                answers = teacher.network(network_inputs(two, teacher.preprocess))
        except (RuntimeError, ValueError, TypeError, IndexError) as reason:
            why = str(reason).splitlines()[0]
            raise errors.teachers.rejects_images(teacher.name, data.shape, why) from reason
        if not isinstance(answers, Tensor) or answers.ndim != 2:
            why = "it does not answer with logits [N, classes]"
            raise errors.teachers.rejects_images(teacher.name, data.shape, why)
        if answers.shape[1] != logits:
            raise errors.teachers.other_classes(teacher.name, answers.shape[1], logits)
