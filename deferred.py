"""Modules that a dependency imports at its start and that most commands never use, loaded at first use instead."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

RARELY_USED = ("sympy", "onnx_ir._symbolic_shapes")
"""onnx_ir does arithmetic on named dimensions with sympy, whose import takes longer than the rest of onnx_ir's.

A name that is not imported any more costs nothing here.
"""


class _Deferred(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


def defer(*names: str) -> None:
    """Make `import name` free until something of the module is used; to be called before anything imports it.

    For processes that are ours alone: the command line's.
    """
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))
