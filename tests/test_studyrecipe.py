from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe import load_recipe
from edgelathe.recipe_stages import Distill, Quantize, Sparsify, SparsifyGradually, Train
from edgelathe.studyrecipe import load_study, shipped_studies

STUDY = """\
# a toy
budgets = [0.5]

[teacher]
source = "cifar_resnet20"

[train]                     # line 7
epochs = 2

[[students]]
name = "a"
source = "cifar_resnet8"

[[students]]
name = "b"
source = "cifar_densenet"
arguments = { growth = 4 }

[distill]
epochs = 3

[recover]
epochs = 1
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = STUDY) -> Path:
        path = tmp_path / "toy.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | str, *overrides: str) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        load_study(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sections_become_the_stages_that_they_are(written: Callable[..., Path]) -> None:
    study = load_study(written())
    assert (study.name, study.seeds, study.budgets) == ("toy", (0,), (0.5,))
    assert isinstance(study.train, Train) and study.train.epochs == 2
    assert isinstance(study.distill, Distill) and isinstance(study.recover, Distill)
    assert (study.recover.epochs, study.recover.temperature) == (1, 4.0)
    assert study.quantize is None
    assert study.students[1].arguments == {"growth": 4}


def test_sections_may_be_another_stage_where_that_makes_sense(written: Callable[..., Path]) -> None:
    text = STUDY + 'do = "train"\n[weights]\ndo = "sparsify-gradually"\nepochs = 2\n[quantize]\nmethod = "minmax"\n'
    study = load_study(written(text))
    assert isinstance(study.recover, Train)
    assert isinstance(study.weights, SparsifyGradually)
    assert isinstance(study.quantize, Quantize) and study.quantize.method == "minmax"
    assert isinstance(load_study(written()).weights, Sparsify)


def test_paths_start_at_the_file(written: Callable[..., Path], tmp_path: Path) -> None:
    text = STUDY.replace('"a"', '"a"\nweights = "nets/a.pth"').replace(
        'source = "cifar_densenet"', 'source = "nets/mine.py:build"\nteacher = { source = "t.py:f", weights = "t.pth" }'
    )
    study = load_study(written(text), ["data.root=here"])
    assert study.students[0].weights == tmp_path / "nets/a.pth"
    assert study.students[1].source == f"{tmp_path}/nets/mine.py:build"
    own = study.students[1].teacher
    assert own is not None and (own.source, own.weights) == (f"{tmp_path}/t.py:f", tmp_path / "t.pth")
    assert study.data.root == Path("here")


def test_keys_are_set_by_number_and_name(written: Callable[..., Path]) -> None:
    study = load_study(written(), ["seeds=[1, 2]", "students.1.source=cifar_mobilenet_v2", "recover.epochs=9"])
    assert study.seeds == (1, 2)
    assert [student.source for student in study.students] == ["cifar_resnet8", "cifar_mobilenet_v2"]
    assert study.recover.epochs == 9


HELP = "write for example --set stages.0.keep_macs=0.4."


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("budgets", "budget", 'Unknown key "budget" in {file}, line 2: did you mean "budgets"?'),
        ("growth", "growht", None),
        ('name = "b"', 'nam = "b"', 'Unknown key "students.1.nam" in {file}, line 15: did you mean "name"?'),
        ("[recover]\nepochs = 1", "", 'Missing key "recover" in {file}: add it.'),
        ("[recover]\n", "[recover]\nlrr = 1\n", 'Unknown key "recover.lrr" in {file}, line 23: did you mean "lr"?'),
        ('"b"', '"a"', 'The recipe {file} cannot run: two students are called "a".'),
        (
            "[recover]",
            "[weights]\nkeep = 0.5\n[recover]",
            "The recipe {file} cannot run: weights.keep follows from budgets; leave it out.",
        ),
        (
            "[recover]",
            "[channels]\nkeep_macs = 0.5\n[recover]",
            "The recipe {file} cannot run: channels.keep_macs follows from budgets; leave it out.",
        ),
        (
            "budgets = [0.5]",
            'budgets = [0.5]\nkinds = ["weights"]',
            'The recipe {file} cannot run: matching by "encoded-size" compares weights with channels; kinds must name'
            " both.",
        ),
        (
            '[teacher]\nsource = "cifar_resnet20"\n',
            "",
            'The recipe {file} cannot run: the student "a" has no teacher; add [teacher], or one of its own.',
        ),
        (
            "[train]                     # line 7\nepochs = 2\n",
            "",
            "The recipe {file} cannot run: cifar_resnet20 is a teacher without weights; add [train], or its weights.",
        ),
        (
            '"cifar_resnet8"',
            '"net.onnx"',
            'The recipe {file} cannot run: the student "a" and its teacher must be PyTorch networks.',
        ),
        ("[0.5]", "[1.5]", "Wrong value 1.5 for budgets.0 in {file}, line 2: it must be less than 1."),
    ],
)
def test_a_wrong_study_says_where_and_what(
    written: Callable[..., Path], old: str, new: str, sentence: str | None
) -> None:
    assert old in STUDY
    path = written(STUDY.replace(old, new))
    if sentence is None:  # a network's arguments are its own to refuse
        assert load_study(path).students[1].arguments == {"growht": 4}
    else:
        assert refusal(path) == sentence.format(file=path)


def test_wrong_overrides(written: Callable[..., Path]) -> None:
    assert refusal(written(), "students.2.name=c") == (
        f'Cannot use "--set students.2.name=c": there is no student 2: the recipe has students 0 to 1; {HELP}'
    )


def test_unknown_studies() -> None:
    assert refusal("soup") == f'Unknown recipe "soup": valid are: {", ".join(sorted(shipped_studies()))}.'


def test_a_study_is_no_recipe(written: Callable[..., Path]) -> None:
    path = written()
    with pytest.raises(EdgeLatheError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"{path} is a study and no recipe: carry it out with edgelathe study."


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_are_valid_and_compare_the_four_families(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert [student.name for student in study.students] == ["resnet", "densenet", "efficientnet", "mobilenet"]
    assert set(study.kinds) == {"weights", "channels"} and "random-channels" in study.controls
    assert study.matching == ("parameters", "encoded-size") and study.quantize is not None
