"""Turn what pydantic says about a recipe into one sentence that names the place and the nearest valid word."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from . import errors

Place = tuple[int | str, ...]

WORDS: dict[str, str] = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "path_type": "a path",
    "string_type": "a text",
    "too_short": "a list that is not empty",
    "tuple_type": "a list",
}
"""What a value must be, by pydantic's name for why it is not."""


def explain(
    failure: ValidationError,
    recipe: type[BaseModel],
    document: Mapping[str, Any],
    text: str,
    file: Path,
    overrides: Sequence[str],
) -> str:
    """The first thing wrong in `document`, with its key, its line in `text` (or the override that set it) and what is
    valid. Unknown keys come first: a misspelt one is missing as well."""
    if "students" in document and "students" not in recipe.model_fields:
        return f"{file} is a study and no recipe: carry it out with edgelathe study."
    problems = failure.errors()
    problem = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    kind, place = problem["type"], _place(problem["loc"], document)
    if kind in ("missing", "union_tag_invalid"):
        place = (*place, problem["loc"][-1] if kind == "missing" else "do")
    key = ".".join(str(part) for part in place)
    origin = _origin(place, key, text, file, overrides)
    if kind == "extra_forbidden":
        valid = _keys_beside(recipe, problem["loc"])
        if key in ("data.mean", "data.std"):
            return f'Unknown key "{key}" in {origin}: normalisation belongs to the network, write model.{place[-1]}.'
        return f'Unknown key "{key}" in {origin}: {errors.inputs.nearest(str(place[-1]), valid)}'
    if kind == "missing":
        return f'Missing key "{key}" in {origin}: add it.'
    if kind == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        meant = errors.inputs.nearest(tag, _quoted(problem, "expected_tags"))
        return f'Unknown stage "{tag}" at {key} in {origin}: {meant}'
    if kind == "union_tag_not_found":
        return f'Stage {key} in {origin} does not say what to do: add do = "quantize" or another stage\'s name.'
    beside = [each for each in problems if _place(each["loc"], document) == place]
    if kind == "literal_error" and len(beside) == 1:
        value = str(problem["input"])
        if value == "dynamic":
            return str(errors.quantize.dynamic_quantization(f"{key} in {origin}"))
        meant = errors.inputs.nearest(value, _quoted(problem, "expected"))
        return f'Unknown value "{value}" for {key} in {origin}: {meant}'
    if kind == "value_error":
        return f"The recipe {origin} cannot run: {problem['ctx']['error']}."
    if kind == "string_pattern_mismatch" and key == "name":
        return f'The name "{problem["input"]}" in {origin} cannot name a folder: use letters, digits, ".", "_" and "-".'
    listed = f"a list of tables, each under [[{key}]]"
    needed = listed if key in ("stages", "teachers") else _either(map(wanted, beside))
    return f"Wrong value {problem['input']!r} for {key} in {origin}: it must be {needed}."


def _place(location: Place, document: Any) -> Place:
    """Follow pydantic's location into the document, without what it adds: a stage's tag, a union's member."""
    place: list[int | str] = []
    for part in location:
        in_table = isinstance(document, dict) and part in document
        if in_table or (isinstance(document, list) and isinstance(part, int) and part < len(document)):
            place.append(part)
            document = document[part]
    return tuple(place)


def _quoted(problem: Any, key: str) -> list[str]:
    return re.findall(r"'([^']+)'", problem["ctx"][key])


def wanted(problem: Any) -> str:
    """What the value must be that one of pydantic's problems is about."""
    if problem["type"] in WORDS:
        return WORDS[problem["type"]].format(**problem.get("ctx", {})).replace("'", '"')
    sentence = problem["msg"].removeprefix("Input should be ")
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _either(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def _origin(place: Place, key: str, text: str, file: Path, overrides: Sequence[str]) -> str:
    lines = _lines(text)
    for override in reversed(overrides):  # the last one holds
        path = override.partition("=")[0].strip()
        if f"{key}.".startswith(f"{path}.") or (place not in lines and path.startswith(f"{key}.")):
            return f"--set {override}"
    line = next((lines[place[:depth]] for depth in range(len(place), 0, -1) if place[:depth] in lines), None)
    return f"{file}, line {line}" if line else str(file)


def _lines(text: str) -> dict[Place, int]:
    """The line (from 1) on which each table and key begins."""
    lines: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[+)([\w.\- \"']+)\]+", line):
            table = _words(header[2])
            lines.setdefault(table, number)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
                lines[table] = number
        elif assignment := re.match(r"([\w.\- \"']+)=", line):
            lines.setdefault((*table, *_words(assignment[1])), number)
    return lines


def _words(key: str) -> tuple[str, ...]:
    return tuple(part.strip(" \"'") for part in key.split("."))


def _keys_beside(model: Any, location: Place) -> list[str]:
    """Keys that are valid where the unknown one stands."""
    for part in location[:-1]:
        model = _step(model, part)
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _step(model: Any, part: int | str) -> Any:
    if isinstance(part, int):  # an entry of a list, which `_unwrap` has entered
        return model
    if isinstance(model, type) and issubclass(model, BaseModel):
        return _unwrap(model.model_fields[part].annotation) if part in model.model_fields else None
    members = _members(model)
    tagged = [m for m in members if "do" in m.model_fields and part in typing.get_args(m.model_fields["do"].annotation)]
    return tagged[0] if tagged else model


def _unwrap(annotation: Any) -> Any:
    """What a tuple, an optional or an annotated type holds."""
    while True:
        if typing.get_origin(annotation) is tuple or typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        else:
            return annotation


def _members(annotation: Any) -> list[type[BaseModel]]:
    found = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return [member for member in found if isinstance(member, type) and issubclass(member, BaseModel)]
