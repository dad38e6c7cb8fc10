from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.builder import Scheme
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.quantize import scheme_of
from edgelathe.errors import EdgeLatheError


@pytest.fixture
def prepared(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> ir.Model:
    return prepare(save(residual))


def test_words_become_a_scheme(prepared: ir.Model) -> None:
    plain = Scheme("mse", True, None, "empirical", "nearest")
    assert scheme_of(prepared, "mse", True, "none", "empirical", "nearest") == plain
    assert scheme_of(prepared, "mse", True, "auto", "empirical", "nearest") == plain
    even = Scheme("mse", False, "weights", None, "layers")
    assert scheme_of(prepared, "mse", False, "weights", "none", "layers") == even
    assert scheme_of(prepared, "mse", False, "auto", "none", "layers") == even


def test_a_network_that_learned_its_biases_is_not_corrected(prepared: ir.Model) -> None:
    assert scheme_of(prepared, "mse", True, "none", "empirical", "network").correct_bias is None


@pytest.mark.parametrize("key", ["equalize", "correct_bias", "rounding"])
def test_an_unknown_word_is_refused(key: str, prepared: ir.Model) -> None:
    words = {"equalize": "none", "correct_bias": "none", "rounding": "nearest"} | {key: "wieghts"}
    with pytest.raises(EdgeLatheError, match="wieghts"):
        scheme_of(prepared, "mse", True, **words)  # type: ignore[arg-type]
