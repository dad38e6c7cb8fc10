from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.memory import measure_memory
from edgelathe.errors import EdgeLatheError

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def test_weights_and_activations_show_up_where_they_belong(save_text: Callable[[str], Path]) -> None:
    """32 MB of weights appear on loading, 64 MB of activations with the first run."""
    path = save_text(
        HEAD
        + """g (float[n,16] x) => (float[n,16] y)
        <float[16,524288] a, int64[1] zero = {0}, int64[1] sixteen = {16}, int64[1] axis = {1}>
        {
            p = MatMul(x, a)
            t = Concat<axis=1>(OPERANDS)
            y = Slice(t, zero, sixteen, axis)
        }""".replace("OPERANDS", ", ".join(["p"] * 32))
    )
    memory = measure_memory(path, processes=1, seed=0)
    assert (memory.runtime, memory.threads, memory.batch) == ("onnxruntime", 1, 1)
    assert 20e6 < memory.before_load < 120e6
    assert memory.after_load - memory.before_load > 30e6
    assert memory.after_first - memory.after_load > 60e6
    assert memory.peak >= max(memory.after_load, memory.after_first, memory.steady)


def test_figures_repeat_from_process_to_process(resnet_file: Callable[..., Path]) -> None:
    path = resnet_file(20)
    first = measure_memory(path, processes=1, seed=0)
    second = measure_memory(path, processes=1, seed=0)
    assert abs(first.peak - second.peak) < 0.03 * first.peak
    assert abs(first.steady - second.steady) < 0.03 * first.steady


@pytest.mark.parametrize("setting", ["processes", "batch"])
def test_bad_settings_are_one_sentence(resnet_file: Callable[..., Path], setting: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        measure_memory(resnet_file(8, 4), **{setting: 0})  # type: ignore[arg-type]
    assert str(caught.value) == f"Cannot measure with {setting} = 0: it must be at least 1."
