"""Plans and scans as JSON files that people may have edited."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from .. import errors


class Document(Protocol):
    @property
    def format(self) -> int: ...


T = TypeVar("T", bound=Document)


def read_document(
    adapter: TypeAdapter[T], text: str | bytes, *, format: int, what: str, source: Path | str, do: str
) -> T:
    """`text` as what `adapter` describes; raises EdgeLatheError that names `source` and the first thing wrong."""
    try:
        document = adapter.validate_json(text)
    except ValidationError as reason:
        first = reason.errors()[0]
        place = ".".join(map(str, first["loc"]))
        why = f"{place}: {first['msg']}" if place else first["msg"]
        raise errors.inputs.unreadable_file(what, source, why, do) from reason
    if document.format != format:
        why = f"its format is {document.format}, not {format}"
        raise errors.inputs.unreadable_file(what, source, why, do)
    return document
