"""The teachers that a recipe names: networks and ONNX files, as what a stage learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .compress.distill.teachers import Teacher, as_teacher, at_size, check_teachers, onnx_teacher
from .compress.fit import check_fit
from .data import Dataset
from .files import sha256_bytes, sha256_file
from .models.structure import NetworkSpec
from .networks import Network, load_source
from .onnxinputs import onnx_preprocess
from .recipe import Recipe
from .recipe_networks import ONNX, TeacherSection


def load_teacher(section: TeacherSection, data: Dataset, seed: int) -> Network:
    """The teacher as a network that takes images of the data's size, resized where it wants others.

    Raises EdgeLatheError for unknown names, missing files, weights that do not fit, and ONNX files that cannot teach.
    """
    size = None if section.size is None else (section.size, section.size)
    if section.file is None:
        network = load_source(section, data, seed)
        resized = at_size(network.model, data.shape[1:], size)
        origin = network.origin if resized is network.model else sha256_bytes(f"{network.origin} {size}".encode())
        return replace(network, model=resized.eval(), origin=origin)
    preprocess = onnx_preprocess(section.file, data, section.mean, section.std)
    model = onnx_teacher(section.file, data.shape, size=size, layout=section.layout).eval()
    origin = sha256_bytes(f"{sha256_file(section.file)} {size} {section.layout}".encode())
    return Network(model, NetworkSpec(ONNX, {}), preprocess, origin)


def load_teachers(sections: Sequence[TeacherSection], data: Dataset, seed: int) -> tuple[Teacher, ...]:
    """All of them, those of the same title numbered as `--set teachers.<number>` counts; raises as `load_teacher`."""
    titles = [section.title for section in sections]
    teachers = []
    for number, section in enumerate(sections):
        name = section.title if titles.count(section.title) == 1 else f"{section.title} ({number})"
        network = load_teacher(section, data, seed)
        teachers.append(replace(as_teacher(name, network.model, network.preprocess), sha256=network.origin))
    return tuple(teachers)


def check_taught(recipe: Recipe, network: Network, data: Dataset) -> None:
    """Whether all teachers of `recipe` can teach `network`. Raises EdgeLatheError as `load_teacher`, and naming a
    teacher that does not take the images or knows other classes."""
    alone = (recipe.teacher,) if recipe.teacher is not None else ()
    for sections in (alone, recipe.teachers):
        if sections:
            logits = check_fit(network.model, data, network.preprocess)
            check_teachers(load_teachers(sections, data, recipe.seed), data, logits)
