"""The sections of a recipe that name networks: the one that is compressed, and those that it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from .recipe_stages import Section

Scalar = bool | int | float | str
ONNX = "onnx"
"""The source of a teacher whose `weights` are an ONNX file."""


class ModelSection(Section):
    source: str = "cifar_resnet8"
    """Zoo name, "torchvision:<name>", "path/to/file.py:function" or an ONNX file."""
    weights: Path | None = None
    arguments: dict[str, Scalar | list[int]] = Field(default_factory=dict)
    """Further arguments of the network's constructor."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    """What this network's inputs are normalised by; default: the data set's figures."""

    @property
    def file(self) -> Path | None:
        """The ONNX file; None for a PyTorch network."""
        return Path(self.source) if self.source.endswith(".onnx") else None

    @property
    def is_onnx(self) -> bool:
        return self.file is not None


class TeacherSection(ModelSection):
    size: int | None = Field(default=None, ge=1)
    """Side of the square images that it was trained on; default: that of the data, or what an ONNX file declares."""
    layout: Literal["NCHW", "NHWC"] | None = None
    """Where an ONNX file that does not declare it has its channels; default: "NCHW"."""

    @property
    def file(self) -> Path | None:
        weights = self.weights if self.weights is not None and self.weights.suffix == ".onnx" else None
        return super().file or weights

    @property
    def title(self) -> str:
        """What it is called in messages and plots."""
        return self.source if self.file is None else self.file.name

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.source == ONNX and self.file is None:
            raise ValueError('a teacher of source "onnx" needs its file; add weights = "teacher.onnx"')
        if self.file is None:
            if self.layout is not None:
                raise ValueError("layout is for ONNX files, and this teacher is a PyTorch network; leave it out")
        elif self.weights is not None and self.weights != self.file:
            raise ValueError("an ONNX file brings its own weights; leave the teacher's weights out")
        elif self.weights == self.file and "source" in self.model_fields_set and self.source != ONNX:
            raise ValueError(
                f'a teacher cannot be both {self.source} and the ONNX file {self.file.name}; write source = "onnx"'
            )
        elif self.arguments:
            raise ValueError("arguments are for the constructor of a PyTorch network; an ONNX file takes none")
        return self
