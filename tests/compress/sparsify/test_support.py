from __future__ import annotations

import subprocess
import sys

import pytest
from edgelathe.bench.runtimes import RUNTIMES
from edgelathe.compress.sparsify.support import SUPPORT, sparse_support
from edgelathe.errors import EdgeLatheError

PATTERNS = ("unstructured", "2:4", "4x1", "kernel", "strided-2")


def test_every_runtime_that_is_measured_here_has_a_verdict() -> None:
    assert RUNTIMES.keys() <= SUPPORT.keys()


@pytest.mark.parametrize("runtime", SUPPORT)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_verdict_is_one_sentence_about_that_runtime(runtime: str, pattern: str) -> None:
    sentence = sparse_support(pattern, runtime)
    assert sentence.startswith(runtime)
    assert "{" not in sentence
    assert runtime in RUNTIMES or sentence.endswith("not measured here")


def test_what_is_said_depends_on_the_pattern_where_kernels_do() -> None:
    assert "2:4 makes inference no faster" in sparse_support("2:4", "onnxruntime")
    assert "2x1, 4x1" in sparse_support("4x1", "litert")
    assert sparse_support("2:4", "litert") != sparse_support("unstructured", "litert")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(EdgeLatheError, match='Unknown runtime "onnxrt": did you mean "onnxruntime"'):
        sparse_support("2:4", "onnxrt")
    with pytest.raises(EdgeLatheError, match='Unknown pattern "24"'):
        sparse_support("24", "onnxruntime")


def test_asking_needs_no_torch() -> None:
    script = "import sys, edgelathe; edgelathe.sparse_support('2:4', 'onnxruntime'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
