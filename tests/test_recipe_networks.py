from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe import Recipe, load_recipe
from edgelathe.recipe_networks import ModelSection, TeacherSection
from pydantic import ValidationError

RECIPE = """\
[model]
source = "cifar_resnet8"

[[teachers]]
source = "cifar_resnet20"
weights = "twenty.pth"
mean = [0.5]
std = [0.25]

[[teachers]]
source = "onnx"
weights = "sub/other.onnx"
size = 16

[[teachers]]
source = "third.onnx"

[[stages]]
do = "distill-several"
epochs = 1
"""


@pytest.mark.parametrize(
    ("keys", "file"),
    [
        ({"source": "cifar_resnet8"}, None),
        ({"source": "cifar_resnet8", "weights": "net.pth"}, None),
        ({"source": "a/net.onnx"}, "a/net.onnx"),
        ({"source": "onnx", "weights": "net.onnx"}, "net.onnx"),
        ({"weights": "net.onnx"}, "net.onnx"),
    ],
)
def test_a_teacher_is_a_network_or_a_file(keys: dict[str, Any], file: str | None) -> None:
    section = TeacherSection(**keys)
    assert section.file == (None if file is None else Path(file))
    assert section.is_onnx == (file is not None)
    assert section.title == ("cifar_resnet8" if file is None else "net.onnx")


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"source": "onnx"}, 'source "onnx" needs its file; add weights = "teacher.onnx"'),
        ({"source": "onnx", "weights": "net.pth"}, 'source "onnx" needs its file'),
        ({"source": "net.onnx", "weights": "net.pth"}, "an ONNX file brings its own weights"),
        ({"source": "cifar_resnet8", "weights": "net.onnx"}, "cannot be both cifar_resnet8 and the ONNX file net.onnx"),
        ({"source": "net.onnx", "arguments": {"width": 8}}, "an ONNX file takes none"),
        ({"source": "cifar_resnet8", "layout": "NHWC"}, "layout is for ONNX files"),
        ({"source": "cifar_resnet8", "size": 0}, "greater than or equal to 1"),
    ],
)
def test_what_a_teacher_cannot_be(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TeacherSection(**keys)


def test_a_teachers_keys_are_not_the_models() -> None:
    assert set(TeacherSection.model_fields) - set(ModelSection.model_fields) == {"size", "layout"}


def test_several_teachers_and_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("recipes/toy.toml", ["teachers.0.weights=here.pth", "teachers.1.size=24"])
    assert [teacher.weights and str(teacher.weights) for teacher in recipe.teachers] == [
        "here.pth",
        "recipes/sub/other.onnx",
        None,
    ]
    assert recipe.teachers[2].source == "recipes/third.onnx"
    assert [teacher.size for teacher in recipe.teachers] == [None, 24, None]
    assert recipe.teachers[0].mean == (0.5,)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("size = 16", "sise = 16", 'Unknown key "teachers.1.sise" in {file}, line 13: did you mean "size"?'),
        (
            '"distill-several"',
            '"distill"',
            "The recipe {file} cannot run: teachers are given, and no stage learns from them; add a stage"
            " distill-several.",
        ),
        (
            'source = "onnx"\n',
            'source = "cifar_resnet8"\n',
            "The recipe {file}, line 10 cannot run: a teacher cannot be both cifar_resnet8 and the ONNX file"
            ' other.onnx; write source = "onnx".',
        ),
        ("size = 16", "size = 0", "Wrong value 0 for teachers.1.size in {file}, line 13: it must be 1 or more."),
        (
            "size = 16",
            'layout = "CHWN"',
            'Unknown value "CHWN" for teachers.1.layout in {file}, line 13: did you mean "NCHW"?',
        ),
    ],
)
def test_a_wrong_teacher_says_where_and_what(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert RECIPE.count(old) == 1, "the test itself is wrong"
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(EdgeLatheError) as caught:
        load_recipe(path)
    assert str(caught.value) == sentence.format(file=path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "teachers=[]",
            "The recipe {file} cannot run: distill-several has nobody to learn from; add [[teachers]].",
        ),
        (
            "teachers=3",
            "Wrong value 3 for teachers in --set teachers=3: it must be a list of tables, each under [[teachers]].",
        ),
        (
            "teachers.3.size=8",
            'Cannot use "--set teachers.3.size=8": there is no teacher 3: the recipe has teachers 0 to 2; write for'
            " example --set stages.0.keep_macs=0.4.",
        ),
    ],
)
def test_a_wrong_override_of_teachers(tmp_path: Path, override: str, sentence: str) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE)
    with pytest.raises(EdgeLatheError) as caught:
        load_recipe(path, [override])
    assert str(caught.value) == sentence.format(file=path)
