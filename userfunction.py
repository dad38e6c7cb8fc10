"""A function in a user's own file, named as "path/to/file.py:function".

The file is loaded as if its folder were first on sys.path, without touching sys.path: users have folders
called `models` and files called `data.py`, which must neither shadow a module of ours or of a library, nor be
shadowed. Each load makes a package of a private name whose path is that folder. There `from .layers import X`
works as anywhere, and `import layers` finds layers.py beside the file because the loaded modules carry an
`__import__` of their own, which also serves imports made later, when the function is called.
"""

from __future__ import annotations

import builtins
import importlib
import itertools
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from . import errors

_PRIVATE = "_edgelathe_user_"
_numbers = itertools.count()


def is_user_function(source: str) -> bool:
    return ".py:" in source


def load_function(source: str) -> Callable[..., Any]:
    """Run the file, anew for each call, and return the function.

    This runs code: for what the user asked for, never for what a file says. Raises EdgeLatheError when the
    file is missing, fails, or has no such function.
    """
    name, _, attribute = source.rpartition(":")
    path = Path(name).expanduser()
    if not path.is_file():
        raise errors.inputs.missing_file("the function's file", path)
    path = path.resolve()
    package = _new_package(path)
    try:
        module = importlib.import_module(f"{package}.{path.stem}")
    except Exception as reason:
        raise errors.networks.user_file_failed(source, _describe(reason, path)) from reason
    function = getattr(module, attribute, None)
    if not callable(function):
        valid = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise errors.inputs.unknown_choice(f"function of {path.name}", attribute, valid)
    return function


def loaded_files(source: str) -> tuple[Path, ...]:
    """The user's file and the ones beside it that it has imported so far, in order of their paths."""
    path = Path(source.rpartition(":")[0]).expanduser().resolve()
    names = {name for name, module in sys.modules.items() if getattr(module, "_loaded_for", None) == path}
    modules = (module for name, module in sys.modules.items() if name.partition(".")[0] in names)
    return tuple(sorted({Path(file) for module in modules if (file := getattr(module, "__file__", None))}))


def call(source: str, function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Call a loaded function; an exception in it becomes an EdgeLatheError that says where it was raised."""
    path = Path(source.rpartition(":")[0]).expanduser().resolve()
    try:
        return function(*arguments, **keywords)
    except errors.EdgeLatheError:
        raise
    except Exception as reason:
        raise errors.networks.user_file_failed(source, _describe(reason, path)) from reason


def _describe(reason: Exception, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(reason.__traceback__) if Path(frame.filename) == path]
    place = f" in line {lines[-1]}" if lines else ""
    return f"{type(reason).__name__}{place}: {' '.join(str(reason).split()) or 'no message'}"


def _new_package(path: Path) -> str:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    package = ModuleType(f"{_PRIVATE}{next(_numbers)}")
    package.__path__ = [str(path.parent), str(path.parent.parent)]
    package._loaded_for = path  # type: ignore[attr-defined]
    sys.modules[package.__name__] = package
    return package.__name__


class _Finder:
    """Finds modules of our private packages only, and has them loaded by `_Loader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_PRIVATE):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Compiles from source each time: nothing stale is run, no cache is written beside the user's file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        super().exec_module(module)


def _importer(package: str) -> Callable[..., ModuleType]:
    folder = Path(sys.modules[package].__path__[0])

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        # A file in models/ may also say `from models.blocks import ...`, as it would from the project's root.
        if level or not (_beside(folder, top) or (top == folder.name and top not in sys.modules)):
            return builtins.__import__(name, globals, locals, fromlist, level)
        builtins.__import__(f"{package}.{name}", fromlist=fromlist)
        return sys.modules[f"{package}.{name if fromlist else top}"]

    return import_


def _beside(folder: Path, name: str) -> bool:
    """Whether the folder holds that module; a folder of other files yields to a library of its name."""
    if (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py")):
        return True
    return (folder / name).is_dir() and name not in sys.modules and PathFinder.find_spec(name) is None
