from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def printed(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_a_deferred_module_is_loaded_at_first_use() -> None:
    assert (
        printed(
            "import sys\n"
            "from edgelathe.deferred import defer\n"
            "defer('colorsys')\n"
            "import colorsys\n"
            "before = 'rgb_to_hsv' in vars(sys.modules['colorsys'])\n"
            "value = colorsys.rgb_to_hsv(0.5, 0.5, 0.5)\n"
            "import colorsys as real\n"
            "print(before, value, 'rgb_to_hsv' in vars(real), colorsys.hsv_to_rgb is real.hsv_to_rgb)"
        )
        == "False (0.0, 0.0, 0.5) True True"
    )


def test_submodules_and_names_can_be_imported_from_a_deferred_package() -> None:
    assert (
        printed(
            "from edgelathe.deferred import defer\n"
            "defer('json', 'xml')\n"
            "import xml.dom.minidom\n"
            "from json import loads\n"
            "print(loads('[1]'), xml.dom.minidom.parseString('<a/>').documentElement.tagName)"
        )
        == "[1] a"
    )


def test_what_is_loaded_already_stays() -> None:
    assert (
        printed(
            "import sys, json\nfrom edgelathe.deferred import defer\ndefer('json')\nprint(sys.modules['json'] is json)"
        )
        == "True"
    )


def test_onnx_ir_works_with_named_dimensions_after_deferring(tmp_path: Path) -> None:
    assert (
        printed(
            "import sys\n"
            "from edgelathe.deferred import RARELY_USED, defer\n"
            "defer(*RARELY_USED)\n"
            "import onnx_ir as ir\n"
            "before = 'mpmath' in sys.modules\n"
            "dim = ir.SymbolicDim('N')\n"
            "print(before, (dim * 2).value, 'mpmath' in sys.modules)"
        )
        == "False 2*N True"
    )
