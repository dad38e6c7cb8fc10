"""Turn what pydantic says about a recipe into one sentence that names the place and the nearest valid word."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from . import errors


def explain(failure: ValidationError, recipe: type[BaseModel], text: str, file: Path, overrides: Sequence[str]) -> str:
    """The first thing wrong, with its key, its line in `text` (or the override that set it) and what is valid."""
    problem = failure.errors()[0]
    place = _without_tags(problem["loc"])
    key = ".".join(str(part) for part in place)
    origin = _origin(place, key, text, file, overrides)
    kind = problem["type"]
    if kind == "extra_forbidden":
        valid = _keys_beside(recipe, problem["loc"])
        return f'Unknown key "{key}" in {origin}: {errors.nearest(str(place[-1]), valid)}'
    if kind == "missing":
        return f'Missing key "{key}" in {origin}: add it.'
    if kind == "union_tag_invalid":
        expected = re.findall(r"'([^']+)'", problem["ctx"]["expected_tags"])
        tag = problem["ctx"]["tag"]
        return f'Unknown stage "{tag}" at {key}.do in {origin}: {errors.nearest(tag, expected)}'
    if kind == "union_tag_not_found":
        return f'Stage {key} in {origin} does not say what to do: add do = "quantize" or another stage\'s name.'
    if kind == "literal_error":
        expected = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
        value = str(problem["input"])
        return f'Unknown value "{value}" for {key} in {origin}: {errors.nearest(value, expected)}'
    if kind == "value_error":
        return f"The recipe {origin} cannot run: {problem['ctx']['error']}."
    if kind == "string_pattern_mismatch" and key == "name":
        return f'The name "{problem["input"]}" in {origin} cannot name a folder: use letters, digits, ".", "_" and "-".'
    return f"Wrong value {problem['input']!r} for {key} in {origin}: {_lower(problem['msg'])}."


def _without_tags(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """pydantic puts the stage's tag behind its number, and the union's member behind a key of several types."""
    parts = list(location)
    if len(parts) > 2 and parts[0] == "stages":
        del parts[2]
    known = [part for part in parts if isinstance(part, int) or re.fullmatch(r"[a-z_0-9]+", part)]
    return tuple(part for part in known if part not in ("bool", "int", "float", "str"))


def _origin(place: tuple[int | str, ...], key: str, text: str, file: Path, overrides: Sequence[str]) -> str:
    for override in overrides:
        if override.partition("=")[0].strip() == key:
            return f"--set {override}"
    line = _line(place, text)
    return f"{file}, line {line}" if line else str(file)


def _line(place: tuple[int | str, ...], text: str) -> int | None:
    """The line (from 1) on which a key stands, by following the table headers above it."""
    table: tuple[int | str, ...] = ()
    stages = -1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*([A-Za-z0-9_.\-]+)\s*\]+", line)
        if header:
            if header.group(1) == "stages":
                stages += 1
                table = ("stages", stages)
            else:
                table = tuple(header.group(1).split("."))
            if table == place:
                return number
            continue
        assignment = re.match(r"\s*([A-Za-z0-9_\-]+)\s*=", line)
        if assignment and (*table, assignment.group(1)) == place[: len(table) + 1]:
            return number
    return None


def _keys_beside(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Keys that are valid where the unknown one stands."""
    for part in location[:-1]:
        model = _step(model, part)
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _step(model: Any, part: int | str) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return _unwrap(model.model_fields[str(part)].annotation) if part in model.model_fields else None
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


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
