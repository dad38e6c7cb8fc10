from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edgelathe.bench.runtimes import RUNTIMES, find_runtime, onnxruntime
from edgelathe.bench.runtimes.adapter import Port
from edgelathe.errors import EdgeLatheError

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def test_ports_and_results(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,3] x, uint8[n,3] z) => (float[n,3] y, float[n,3] t)
        { f = Cast<to=1>(z)  y = Add(x, f)  t = Sub(x, f) }"""
    )
    session = onnxruntime.load(path, 1)
    assert session.inputs == (Port("x", ("n", 3), "float32"), Port("z", ("n", 3), "uint8"))
    assert session.outputs == (Port("y", ("n", 3), "float32"), Port("t", ("n", 3), "float32"))
    x, z = np.float32([[1, 2, 3]]), np.uint8([[4, 5, 6]])
    y, t = session.run({"x": x, "z": z})
    assert y.tolist() == [[5, 7, 9]]
    assert t.tolist() == [[-3, -3, -3]]


def test_a_refusal_while_running_is_one_sentence(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,3] x) => (float[n,3] y) { y = Relu(x) }")
    with pytest.raises(EdgeLatheError) as caught:
        onnxruntime.load(path, 1).run({"x": np.zeros((1, 4), np.float32)})
    message = str(caught.value)
    assert message.startswith(f'The runtime "onnxruntime" cannot run the model {path}: ')
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        onnxruntime.load(tmp_path / "none.onnx", 1)


def test_the_adapter_is_found_and_speaks_for_itself() -> None:
    assert find_runtime("onnxruntime") is RUNTIMES["onnxruntime"]
    assert onnxruntime.reason_why_not() is None
    assert onnxruntime.version() == __import__("onnxruntime").__version__


def test_a_runtime_that_is_not_installed_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = SimpleNamespace(PACKAGE="ai-edge-litert", reason_why_not=lambda: "not installed")
    monkeypatch.setitem(RUNTIMES, "litert", absent)  # type: ignore[arg-type]
    with pytest.raises(EdgeLatheError) as caught:
        find_runtime("litert")
    assert str(caught.value) == (
        'Cannot measure under the runtime "litert": it is not installed; run "pip install ai-edge-litert".'
    )
