"""Users' own files: their names and ours never meet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from edgelathe import userfunction
from edgelathe.errors import EdgeLatheError


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_neither_names_nor_search_path_are_touched(tmp_path: Path) -> None:
    _write(tmp_path, data="def load(): return 'mine'", models__net="WIDTH = 3")
    (tmp_path / "json.py").write_text("raise RuntimeError('the user has a file called json.py')")
    names, path = set(sys.modules), list(sys.path)
    assert userfunction.load_function(f"{tmp_path}/data.py:load")() == "mine"
    assert sys.path == path
    assert all(name.startswith("_edgelathe_user_") for name in set(sys.modules) - names)
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    "line",
    ["from .helper import VALUE", "from helper import VALUE", "import helper; VALUE = helper.VALUE"],
)
def test_helpers_are_found_while_loading_and_when_called(line: str, tmp_path: Path) -> None:
    later = line.replace("helper", "late_helper")
    _write(tmp_path, helper="VALUE = 1", late_helper="from helper import VALUE as one\nVALUE = one + 1")
    _write(tmp_path, mine=f"{line}\nfirst = VALUE\ndef build():\n    {later}\n    return first, VALUE\n")
    names = set(sys.modules)
    assert userfunction.load_function(f"{tmp_path}/mine.py:build")() == (1, 2)
    assert not {"helper", "late_helper", "mine"} & (set(sys.modules) - names)


def test_a_folder_called_models_is_the_users(tmp_path: Path) -> None:
    _write(
        tmp_path,
        models__net="WIDTH = 3",
        mine="from models.net import WIDTH\nimport models.net\nimport models.net as net\n"
        "def build(): return WIDTH, models.net.WIDTH, net.WIDTH",
    )
    assert userfunction.load_function(f"{tmp_path}/mine.py:build")() == (3, 3, 3)
    import edgelathe.models.zoo

    assert edgelathe.models.zoo.NETWORKS


def test_libraries_win_over_folders_that_are_no_packages(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    _write(tmp_path, mine="import os.path\nimport numpy\ndef build(): return numpy.int64(2) + len(os.path.sep)")
    assert userfunction.load_function(f"{tmp_path}/mine.py:build")() == 3


def test_two_folders_with_files_of_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, helper=f"NAME = '{name}'", mine="import helper\ndef get(): return helper.NAME")
    one, two = (userfunction.load_function(f"{tmp_path}/{name}/mine.py:get") for name in ("a", "b"))
    assert (one(), two()) == ("a", "b")


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    _write(tmp_path, mine="def get(): return 1")
    assert userfunction.load_function(f"{tmp_path}/mine.py:get")() == 1
    _write(tmp_path, mine="def get(): return 2")
    assert userfunction.load_function(f"{tmp_path}/mine.py:get")() == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_like_it\n", "ModuleNotFoundError in line 1: No module named 'nothing_like_it'"),
        ("x = 1\ny = x / 0\n", "ZeroDivisionError in line 2: division by zero"),
        ("def build(:\n", "SyntaxError: "),
    ],
)
def test_a_file_that_fails(text: str, reason: str, tmp_path: Path) -> None:
    _write(tmp_path, mine=text)
    with pytest.raises(EdgeLatheError) as refusal:
        userfunction.load_function(f"{tmp_path}/mine.py:build")
    assert str(refusal.value).startswith(f"Cannot use {tmp_path}/mine.py:build: it raised {reason}")


def test_a_function_that_fails_names_its_line(tmp_path: Path) -> None:
    _write(tmp_path, mine="def build(n):\n    return [1][n]\n")
    source = f"{tmp_path}/mine.py:build"
    with pytest.raises(EdgeLatheError) as refusal:
        userfunction.call(source, userfunction.load_function(source), 5)
    assert str(refusal.value) == (
        f"Cannot use {source}: it raised IndexError in line 2: list index out of range; mend it and run again."
    )


def test_missing_file_and_missing_function(tmp_path: Path) -> None:
    _write(tmp_path, mine="def build(): pass")
    with pytest.raises(EdgeLatheError, match=r"Cannot read the function's file .*none\.py: there is no such file"):
        userfunction.load_function(f"{tmp_path}/none.py:build")
    with pytest.raises(EdgeLatheError) as refusal:
        userfunction.load_function(f"{tmp_path}/mine.py:biuld")
    assert str(refusal.value) == 'Unknown function of mine.py "biuld": did you mean "build"?'


def test_the_files_that_were_loaded_are_known(tmp_path: Path) -> None:
    _write(tmp_path, helper="VALUE = 1", late="VALUE = 2", other="VALUE = 3", models__net="WIDTH = 4")
    _write(
        tmp_path, mine="import json\nimport helper, models.net\ndef build():\n    import late\n    return late.VALUE\n"
    )
    source = f"{tmp_path}/mine.py:build"
    assert userfunction.loaded_files(source) == ()
    build = userfunction.load_function(source)
    before = [tmp_path / name for name in ("helper.py", "mine.py", "models/net.py")]
    assert list(userfunction.loaded_files(source)) == before
    assert build() == 2
    assert list(userfunction.loaded_files(source)) == sorted([*before, tmp_path / "late.py"])
    userfunction.load_function(source)
    assert len(userfunction.loaded_files(source)) == 4


def test_a_file_in_models_may_import_as_from_the_projects_root(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "blocks.py").write_text("WIDTH = 7\n")
    (tmp_path / "models" / "net.py").write_text("from models.blocks import WIDTH\n\ndef build():\n    return WIDTH\n")
    assert userfunction.load_function(f"{tmp_path}/models/net.py:build")() == 7
    assert not [name for name in sys.modules if name == "models" or name.startswith("models.")]
