"""An ONNX file as a frozen PyTorch module: what learns from a teacher need not know where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ... import errors
from ...files import sha256_bytes
from ...models.onnx_file import load_onnx

Layout = Literal["NCHW", "NHWC"]

_FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class OnnxNetwork(nn.Module):
    """Normalised images float32 [N, C, H, W] in, logits float32 [N, classes] out, without gradients.

    The file is read once and run by ONNX Runtime on the CPU, on as many threads as torch computes with. It may want its
    input in other float types, with channels last, or a fixed number of images at a time. It has no parameters; the
    SHA-256 of the model is a buffer, so that the hash of a network's tensors tells files apart.
    """

    sha256: Tensor

    def __init__(self, path: Path | str, *, channels: int, layout: Layout | None = None) -> None:
        """`layout` is for files that do not declare where their channels are; default: what is declared, else NCHW.

        Raises EdgeLatheError for a missing or damaged file, for inputs that are not one batch of float images of
        `channels` channels, and where `layout` contradicts what the file declares.
        """
        super().__init__()
        self.path = Path(path)
        self._model = load_onnx(self.path).SerializeToString(deterministic=True)
        self.register_buffer("sha256", torch.tensor(list(bytes.fromhex(sha256_bytes(self._model))), dtype=torch.uint8))
        self._threads = 0
        self._session = self._opened()
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise self._unusable(f"it has {len(inputs)} inputs", "a teacher takes images and nothing else")
        self._name, self._shape = inputs[0].name, tuple(_fixed(size) for size in inputs[0].shape)
        if inputs[0].type not in _FLOATS:
            raise self._unusable(f"its input is {inputs[0].type}", "export it with float inputs")
        self._dtype = _FLOATS[inputs[0].type]
        self._layout = self._agreed_layout(channels, layout)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the file declares; None where it takes any."""
        first = 2 if self._layout == "NCHW" else 1
        height, width = self._shape[first : first + 2]
        return None if height is None or width is None else (height, width)

    def forward(self, images: Tensor) -> Tensor:
        batch = images.detach().float().permute(0, 2, 3, 1) if self._layout == "NHWC" else images.detach().float()
        array = np.ascontiguousarray(batch.numpy(), dtype=self._dtype)
        if torch.get_num_threads() != self._threads:
            self._session = self._opened()
        count = self._shape[0] or len(array)
        parts = [self._answers(array[at : at + count], count) for at in range(0, len(array), count)]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32, copy=False))

    def _answers(self, part: np.ndarray, count: int) -> np.ndarray:
        missing = count - len(part)
        if missing:  # A file of a fixed batch takes no fewer; what it answers to the copies is cut off again.
            part = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        answers: np.ndarray = self._session.run(None, {self._name: part})[0]
        return answers[: count - missing]

    def _opened(self) -> onnxruntime.InferenceSession:
        self._threads = torch.get_num_threads()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        except Exception as reason:  # onnxruntime's errors share no base class below Exception
            why = f"ONNX Runtime refuses it ({str(reason).splitlines()[0]})"
            raise self._unusable(why, "give one that it runs") from reason

    def _agreed_layout(self, channels: int, asked: Layout | None) -> Layout:
        if len(self._shape) != 4:
            raise self._unusable(f"its input has {len(self._shape)} dimensions", "a teacher takes [N, C, H, W]")
        possible: list[Layout] = []
        if self._shape[1] in (channels, None):
            possible.append("NCHW")
        if self._shape[3] in (channels, None):
            possible.append("NHWC")
        if asked is not None and asked in possible:
            return asked
        declared = " x ".join("?" if size is None else str(size) for size in self._shape)
        if asked is not None:
            raise self._unusable(f"its input {declared} is not {asked}", "leave layout out")
        if not possible:
            raise self._unusable(
                f"its input {declared} does not take images of {channels} channel{'s' * (channels > 1)}",
                "give one trained on this data",
            )
        exact: list[Layout] = [each for each in possible if self._shape[1 if each == "NCHW" else 3] == channels]
        return (exact or possible)[0]

    def _unusable(self, why: str, do: str) -> errors.EdgeLatheError:
        return errors.teachers.unusable_file(self.path, why, do)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # A session cannot be copied, and nothing about it ever changes.


def _fixed(size: object) -> int | None:
    return size if isinstance(size, int) and size > 0 else None
