from __future__ import annotations

import pytest
from edgelathe.compress.quantize.builder import Scheme
from edgelathe.compress.quantize.quantize import scheme_of
from edgelathe.errors import EdgeLatheError


def test_words_become_a_scheme() -> None:
    assert scheme_of("mse", True, None, "empirical", "nearest") == Scheme("mse", True, None, "empirical", "nearest")
    assert scheme_of("mse", True, "weights", "none", "layers") == Scheme("mse", True, "weights", None, "layers")


def test_a_network_that_learned_its_biases_is_not_corrected() -> None:
    assert scheme_of("mse", True, None, "empirical", "network").correct_bias is None


@pytest.mark.parametrize("key", ["equalize", "correct_bias", "rounding"])
def test_an_unknown_word_is_refused(key: str) -> None:
    words = {"equalize": None, "correct_bias": "none", "rounding": "nearest"} | {key: "wieghts"}
    with pytest.raises(EdgeLatheError, match="wieghts"):
        scheme_of("mse", True, **words)  # type: ignore[arg-type]
