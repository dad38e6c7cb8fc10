"""Teachers of these tests: the toy network as an ONNX file, written as text, and one that counts its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from torch import Tensor, nn

WriteOnnx = Callable[..., Path]


class Counted(nn.Module):
    """Counts images; the same count for all copies of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, [0]

    def __deepcopy__(self, _memo: object) -> Counted:
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.seen[0] += len(x)
        return self.network(x)


_ONNX_TYPE = {"float": np.float32, "float16": np.float16, "double": np.float64}


@pytest.fixture
def write_onnx() -> WriteOnnx:
    """`small_net` as an ONNX file of a fixed or free batch, with channels first or last, in a float type, with or
    without a softmax at its end."""

    def write(
        network: nn.Module,
        path: Path,
        *,
        batch: int | None = None,
        size: int | str = 8,
        layout: str = "NCHW",
        dtype: str = "float",
        ending: str = "",
    ) -> Path:
        first = "N" if batch is None else batch
        shape = f"{first}, 3, {size}, {size}" if layout == "NCHW" else f"{first}, {size}, {size}, 3"
        turned = "t = Transpose<perm = [0, 3, 1, 2]>(x)" if layout == "NHWC" else "t = Identity(x)"
        model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 18]>
            g ({dtype}[{shape}] x) => ({dtype}[{first}, 3] y) {{
                {turned}
                c = Conv<pads = [1, 1, 1, 1]>(t, kernel)
                b = BatchNormalization(c, scale, shift, mean, variance)
                r = Relu(b)
                p = GlobalAveragePool(r)
                f = Flatten(p)
                l = Gemm<transB = 1>(f, weight, bias)
                y = {ending or "Identity"}(l)
            }}""")
        tensors = {
            "kernel": "0.weight", "scale": "1.weight", "shift": "1.bias", "mean": "1.running_mean",
            "variance": "1.running_var", "weight": "6.weight", "bias": "6.bias",
        }  # fmt: skip
        state = network.state_dict()
        for name, key in tensors.items():
            array = state[key].numpy().astype(_ONNX_TYPE[dtype])
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.save(model, str(path))
        return path

    return write
