from __future__ import annotations

from dataclasses import dataclass

import pytest
from edgelathe.compress.documents import read_document
from edgelathe.errors import EdgeLatheError
from pydantic import TypeAdapter


@dataclass(frozen=True)
class Note:
    format: int
    words: tuple[str, ...]


ADAPTER = TypeAdapter(Note)


def read(text: str) -> Note:
    return read_document(ADAPTER, text, format=2, what="the note", source="note.json", do="write it again")


def test_a_document_comes_back() -> None:
    assert read('{"format": 2, "words": ["a", "b"]}') == Note(2, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 1, "words": []}', "its format is 1, not 2"),
        ('{"format": 2, "words": ["a", 3]}', "words.1: Input should be a valid string"),
        ('{"format": 2', "Invalid JSON"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_s_name(text: str, why: str) -> None:
    with pytest.raises(EdgeLatheError, match="the note note") as raised:
        read(text)
    assert why in str(raised.value)
    assert str(raised.value).endswith("write it again.")
