from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from edgelathe.data import Dataset, load_data
from edgelathe.dryrun import plan
from edgelathe.errors import EdgeLatheError
from edgelathe.networks import load_source
from edgelathe.recipe import Recipe
from edgelathe.recipe_networks import TeacherSection
from edgelathe.steps.networks import carried_out
from edgelathe.steps.steps import Steps
from edgelathe.teachersource import check_taught, load_teacher, load_teachers
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", limit_train=40, limit_test=20)


def written(path: Path, *, classes: int = 10, size: int = 8, seed: int = 0) -> Path:
    """A linear classifier of digits as an ONNX file."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[N, 1, {size}, {size}] x) => (float[N, {classes}] y)'
        " { f = Flatten(x)\n y = MatMul(f, w) }"
    )
    weights = np.random.default_rng(seed).normal(size=(size * size, classes)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, str(path))
    return path


def test_a_network_without_a_size_of_its_own_is_what_a_model_section_makes(digits: Dataset) -> None:
    section = TeacherSection(source="cifar_resnet8", mean=(0.1,), std=(0.5,))
    teacher, plain = load_teacher(section, digits, 3), load_source(section, digits, 3)
    assert (teacher.origin, teacher.preprocess) == (plain.origin, plain.preprocess)
    assert teacher.preprocess.mean == (0.1,)
    for mine, theirs in zip(teacher.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_size_of_its_own_changes_answers_and_origin(digits: Dataset) -> None:
    plain = load_teacher(TeacherSection(source="cifar_resnet8"), digits, 0)
    larger = load_teacher(TeacherSection(source="cifar_resnet8", size=16), digits, 0)
    other = load_teacher(TeacherSection(source="cifar_resnet8", size=12), digits, 0)
    assert len({plain.origin, larger.origin, other.origin}) == 3
    with torch.no_grad():
        assert not torch.allclose(plain.model(plain.example(digits)), larger.model(larger.example(digits)), atol=1e-4)


def test_an_onnx_file_as_a_teacher(digits: Dataset, tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx")
    by_source = load_teacher(TeacherSection(source=str(path)), digits, 0)
    by_weights = load_teacher(TeacherSection(source="onnx", weights=path, mean=(0.2,), std=(0.4,)), digits, 0)
    assert by_source.origin == by_weights.origin != load_teacher(
        TeacherSection(source=str(written(tmp_path / "other.onnx", seed=1))), digits, 0
    ).origin  # fmt: skip
    assert by_source.preprocess == digits.preprocess
    assert by_weights.preprocess.mean == (0.2,)
    images = by_source.example(digits, 3)
    weights = onnx.numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0])
    assert np.allclose(by_source.model(images).numpy(), images.flatten(1).numpy() @ weights, rtol=0, atol=1e-4)


def test_teachers_of_one_title_are_told_apart(digits: Dataset, tmp_path: Path) -> None:
    sections = [
        TeacherSection(source="cifar_resnet8"),
        TeacherSection(source=str(written(tmp_path / "net.onnx"))),
        TeacherSection(source="cifar_resnet8", arguments={"width": 8}),
    ]
    teachers = load_teachers(sections, digits, 0)
    assert [teacher.name for teacher in teachers] == ["cifar_resnet8 (0)", "net.onnx", "cifar_resnet8 (2)"]
    assert len({teacher.sha256 for teacher in teachers}) == 3
    assert not any(parameter.requires_grad for teacher in teachers for parameter in teacher.network.parameters())


def test_files_that_are_not_there(digits: Dataset, tmp_path: Path) -> None:
    for keys, what in (
        ({"source": "onnx", "weights": tmp_path / "none.onnx"}, "model"),
        ({"source": "cifar_resnet8", "weights": tmp_path / "none.pth"}, "weights"),
    ):
        with pytest.raises(EdgeLatheError, match=rf"^Cannot read the {what} .*none\..*: there is no such file"):
            load_teacher(TeacherSection(**keys), digits, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["teacher", "teachers"])
def test_other_classes_are_refused_before_training(digits: Dataset, tmp_path: Path, key: str) -> None:
    path = written(tmp_path / "hundred.onnx", classes=100)
    section = TeacherSection(source=str(path))
    given = {"teacher": section} if key == "teacher" else {"teachers": (section,)}
    stage = {"do": "distill" if key == "teacher" else "distill-several", "epochs": 1}
    recipe = Recipe(name="toy", model={"source": "cifar_resnet8"}, stages=(stage,), **given)  # type: ignore[arg-type]
    network = load_source(recipe.model, digits, 0)
    with pytest.raises(EdgeLatheError) as caught:
        check_taught(recipe, network, digits)
    assert str(caught.value) == (
        "Cannot learn from the teacher hundred.onnx, which knows 100 classes, in a network with 10 outputs: "
        "all must know the same classes; leave it out or give one trained on this data."
    )


def test_images_that_a_teacher_does_not_take(digits: Dataset, tmp_path: Path) -> None:
    save_file(_flat().state_dict(), str(tmp_path / "flat.safetensors"))
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef build(**_):\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))\n"
    )
    section = TeacherSection(source=f"{tmp_path / 'flat.py'}:build", weights=tmp_path / "flat.safetensors")
    stage = {"do": "distill-several", "epochs": 1}
    recipe = Recipe(name="toy", model={"source": "cifar_resnet8"}, stages=(stage,), teachers=(section,))  # type: ignore[arg-type]
    network = load_source(recipe.model, digits, 0)
    with pytest.raises(EdgeLatheError, match=r"with images of 1 x 8 x 8: .*; set size to that of the images it was"):
        check_taught(recipe, network, digits)
    resized = recipe.model_copy(update={"teachers": (section.model_copy(update={"size": 12}),)})
    check_taught(resized, network, digits)


def _flat() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 10))


TRAINING = {"epochs": 1, "batch": 20, "precision": "float32", "threads": 1}


def done(recipe: Recipe, data: Dataset, folder: Path) -> tuple[list[str], Steps]:
    said: list[str] = []
    steps = Steps(recipe, data, folder, said.append, progress=False)
    carried_out(steps, recipe.stages)
    return said, steps


@pytest.fixture
def taught(digits: Dataset, tmp_path: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "toy",
            "model": {"source": "cifar_resnet8", "arguments": {"width": 4}},
            "teachers": [
                {"source": "cifar_resnet8", "size": 12},
                {"source": "onnx", "weights": written(tmp_path / "net.onnx"), "mean": [0.2], "std": [0.4]},
            ],
            "stages": [{"do": "distill-several", **TRAINING}],
        }
    )


def test_a_stage_that_learns_from_several_teachers(taught: Recipe, digits: Dataset, tmp_path: Path) -> None:
    said, steps = done(taught, digits, tmp_path / "run")
    assert "teacher net.onnx, inputs: (pixel / 255 - mean) / std with mean 0.2 and std 0.4" in said
    (record,) = steps.records
    assert record.summary.startswith("Distilled from 2 teachers for 1 epoch: ")
    weights = record.facts["teacher_weights"]
    assert weights.keys() == {"cifar_resnet8", "net.onnx"}
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-6)
    assert record.epochs[0].logged == {f"weight of {name}": weight for name, weight in weights.items()}
    again, _ = done(taught, digits, tmp_path / "run")
    assert "distill-several: already done" in again


@pytest.mark.parametrize("change", [{"mean": (0.3,)}, {"size": 8}, {"std": (0.5,)}])
def test_other_teachers_make_another_training(
    taught: Recipe, digits: Dataset, tmp_path: Path, change: dict[str, object]
) -> None:
    done(taught, digits, tmp_path / "run")
    first, second = taught.teachers
    changed = taught.model_copy(update={"teachers": (first.model_copy(update=change), second)})
    said, _ = done(changed, digits, tmp_path / "run")
    assert "distill-several" in said


def test_one_teacher_may_be_an_onnx_file(taught: Recipe, digits: Dataset, tmp_path: Path) -> None:
    stages = [{"do": "distill", "loss": "dkd", "weighting": "confidence", **TRAINING}]
    recipe = Recipe.model_validate(
        {**taught.model_dump(), "teachers": (), "teacher": taught.teachers[1].model_dump(), "stages": stages}
    )
    _, steps = done(recipe, digits, tmp_path / "run")
    assert steps.records[0].summary.startswith("Distilled for 1 epoch: ")


def test_a_network_that_learns_from_several_teachers_first_is_the_dense_one(
    taught: Recipe, digits: Dataset, tmp_path: Path
) -> None:
    steps = Steps(taught, digits, tmp_path / "run", lambda _: None, progress=False)
    dense, network = carried_out(steps, taught.stages)
    assert dense.origin == network.origin == steps.records[0].key


def test_the_plan_looks_at_the_teachers(taught: Recipe) -> None:
    planned = plan(taught.model_copy(update={"data": taught.data.model_copy(update={"limit_train": 40})}))
    assert [step.what for step in planned.steps] == [
        "load cifar_resnet8",
        "distill-several for 1 epoch",
        "export to ONNX",
    ]
    missing = taught.teachers[0].model_copy(update={"weights": Path("none.pth")})
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the weights none\.pth"):
        plan(taught.model_copy(update={"teachers": (missing,)}))
