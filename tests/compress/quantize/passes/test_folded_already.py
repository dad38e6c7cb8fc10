from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.fold_constants import fold_constants
from edgelathe.compress.quantize.passes.folded_already import folded_already
from onnxscript.optimizer import optimize_ir

from ..conftest import model_from_text, run

LEFT = {
    "convolutions": """
      c = Conv <pads = [1,1,1,1]> (x, w, b)
      r = Relu (c)
      p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
      q = AveragePool <kernel_shape = [2,2]> (p)
      j = Concat <axis = 1> (q, q)
      y = GlobalAveragePool (j)""",
    "shortcut": """
      starts = Constant <value = int64[2] {0, 0}> ()
      ends = Constant <value = int64[2] {100, 100}> ()
      axes = Constant <value = int64[2] {2, 3}> ()
      steps = Constant <value = int64[2] {2, 2}> ()
      s = Slice (x, starts, ends, axes, steps)
      pads = Constant <value = int64[8] {0, 2, 0, 0, 0, 3, 0, 0}> ()
      p = Pad (s, pads)
      y = Add (p, p)""",
    "norm of its own": """
      r = Relu (x)
      n = BatchNormalization (r, g, v, g, v)
      s = Sigmoid (n)
      y = Mul (n, s)""",
}
CHANGED = {
    "norm of a convolution": "c = Conv <pads = [1,1,1,1]> (x, w)\n y = BatchNormalization (c, g, v, g, v)",
    "identity": "i = Identity (x)\n y = Relu (i)",
    "dropout": "d, mask = Dropout (x)\n y = Relu (d)",
    "clamps in a row": "r = Relu (x)\n zero = Constant <value_float = 0.0> ()\n y = Clip (r, zero)",
    "sum with nothing": "z = Constant <value_float = 0.0> ()\n s = Add (x, z)\n y = Relu (s)",
    "weights in two parts": "k = Mul (w, w)\n y = Conv <pads = [1,1,1,1]> (x, k)",
    "padding before a convolution": (
        "pads = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> ()\n p = Pad (x, pads)\n y = Conv (p, w)"
    ),
    "reshapes in a row": (
        "flat = Constant <value = int64[3] {0, 3, 64}> ()\n back = Constant <value = int64[4] {0, 3, 8, 8}> ()\n"
        " f = Reshape (x, flat)\n y = Reshape (f, back)"
    ),
    "a slice of everything": (
        "s = Constant <value = int64[1] {0}> ()\n e = Constant <value = int64[1] {9223372036854775807}> ()\n"
        " a = Constant <value = int64[1] {1}> ()\n o = Constant <value = int64[1] {1}> ()\n"
        " c = Slice (x, s, e, a, o)\n y = Relu (c)"
    ),
}
WEIGHTS = {"w": (3, 3, 3, 3), "b": (3,), "g": (3,), "v": (3,)}


def model_of(body: str) -> onnx.ModelProto:
    used = {name: shape for name, shape in WEIGHTS.items() if f"{name})" in body or f"{name}," in body}
    text = f"agraph (float[N,3,8,8] x) => (float[N,C,H,W] y) {{ {body} }}"
    return model_from_text(text, used, seed=0, positive=("v",))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


@pytest.mark.parametrize("name", LEFT)
def test_the_optimizer_would_indeed_do_nothing(name: str) -> None:
    proto = model_of(LEFT[name])
    model, optimised = ir.from_proto(proto), ir.from_proto(proto)
    fold_constants(model)
    assert folded_already(model)
    optimize_ir(optimised)
    assert operators(model) == operators(optimised)
    assert all(node.name for node in model.graph)


@pytest.mark.parametrize("name", CHANGED)
def test_what_the_optimizer_would_change_is_left_to_it(name: str) -> None:
    proto = model_of(CHANGED[name])
    model, before = ir.from_proto(proto), operators(ir.from_proto(proto))
    assert not folded_already(model)
    fold_constants(model)
    assert operators(model) != before
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, x), run(proto, x), rtol=1e-5, atol=1e-6)


def test_onnxscript_is_not_loaded_for_nothing(save) -> None:  # type: ignore[no-untyped-def]
    path = save(model_of(LEFT["convolutions"]))
    script = f"import sys; from edgelathe.compress.quantize.passes.prepare import prepare; prepare({str(path)!r});"
    done = subprocess.run(
        [sys.executable, "-c", f"{script} print('onnxscript' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
