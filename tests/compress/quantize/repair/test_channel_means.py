from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.repair.channel_means import average_over_images, mean_of_channels

from ..conftest import images, run


@pytest.mark.parametrize("chunk_bytes", [1, 8 * 8 * 8 * 4 * 5, 2**25])
def test_means_are_those_of_all_images(
    chunk_bytes: int,
    residual: onnx.ModelProto,
    save: Callable[[onnx.ModelProto], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgelathe.compress.quantize.repair.channel_means.CHUNK_BYTES", chunk_bytes)
    x = images(12, (3, 8, 8), seed=0)
    prepared = prepare(save(residual))
    wanted = run(prepared, x).mean(0)
    model = prepared.clone()
    means = [mean_of_channels(model, model.graph.inputs[0], 4), mean_of_channels(model, model.graph.outputs[0], 2)]
    of_input, of_output = average_over_images(model, means, x, None)
    np.testing.assert_allclose(of_input, x.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_output, wanted, rtol=1e-5, atol=1e-6)
