from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgelathe.bench.inputs import random_inputs
from edgelathe.bench.runtimes.adapter import Port
from edgelathe.errors import EdgeLatheError

MODEL = Path("m.onnx")


def test_inputs_are_seeded_and_of_the_declared_type() -> None:
    ports = [Port("x", ("n", 3, 4), "float32"), Port("ids", ("n", 5), "int64"), Port("scale", (), "float64")]
    first = random_inputs(MODEL, ports, batch=2, seed=1)
    again = random_inputs(MODEL, ports, batch=2, seed=1)
    other = random_inputs(MODEL, ports, batch=2, seed=2)
    assert {name: (array.shape, array.dtype.name) for name, array in first.items()} == {
        "x": ((2, 3, 4), "float32"),
        "ids": ((2, 5), "int64"),
        "scale": ((), "float64"),
    }
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], other["x"])
    assert set(first["ids"].ravel().tolist()) <= {0, 1}


def test_open_dimensions_behind_the_batch_must_be_given() -> None:
    port = Port("x", ("n", 3, "h", "w"), "float32")
    with pytest.raises(EdgeLatheError, match=r'Cannot tell the size of input "x" \[n, 3, h, w\] of the model m\.onnx'):
        random_inputs(MODEL, [port], batch=1, seed=0)
    assert random_inputs(MODEL, [port], batch=1, seed=0, shapes={"x": (1, 3, 8, 6)})["x"].shape == (
        1,
        3,
        8,
        6,
    )


def test_a_fixed_batch_is_not_overridden() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        random_inputs(MODEL, [Port("x", (1, 3), "float32")], batch=8, seed=0)
    assert str(caught.value) == (
        'Cannot give input "x" [1, 3] of the model m.onnx the shape [8, 3]: they do not agree; '
        "give the shape that the model declares."
    )


def test_a_type_that_numpy_lacks_is_named() -> None:
    with pytest.raises(EdgeLatheError, match="its type bfloat17 is none that numpy has"):
        random_inputs(MODEL, [Port("x", (1, 3), "bfloat17")], batch=1, seed=0)
