from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgelathe.compress.pack.container import (
    LARGEST_HEADER,
    PRELUDE,
    UNSIGNED,
    Container,
    Entry,
    Header,
    compress,
    decompress,
    read_container,
    write_container,
)
from edgelathe.errors import EdgeLatheError

SOURCE = Path("model.elp")
CODED = Entry("w", (2, 3), 3, 10, 6, "bytes", 0, 5, 0)
PLAIN = Entry("c", (2,), 1, 20, 8, "planes", 0, 0, 8)
SKELETON = bytes(range(14))


def container(*entries: Entry, skeleton: bytes = SKELETON, **header: Any) -> Container:
    entries = entries or (CODED, PLAIN)
    facts = Header(28, "00" * 32, "constriction 0.5.0", entries, len(compress(b"p" * 8)))
    return Container(replace(facts, **header), skeleton, tuple(b"c" * entry.payload for entry in entries), b"p" * 8)


def written(made: Container) -> bytes:
    return write_container(made, compress(b"p" * 8))


def refusal(data: bytes, **keys: int) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        read_container(data, SOURCE, **keys)
    return str(caught.value)


def resealed(data: bytes) -> bytes:
    """With the checksum that somebody who changes the file would give it."""
    digest = hashlib.sha256(data[:UNSIGNED] + data[PRELUDE.size :]).digest()
    return data[:UNSIGNED] + digest + data[PRELUDE.size :]


def test_what_is_written_is_read() -> None:
    assert read_container(written(container()), SOURCE) == container()


def test_every_change_of_one_byte_and_every_truncation_is_refused() -> None:
    data = written(container())
    for place in range(len(data)):
        assert refusal(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]).startswith("Cannot unpack")
        assert refusal(data[:place]).startswith("Cannot unpack model.elp: it")
        assert refusal(data + data[: place + 1]).startswith("Cannot unpack")


def test_messages_say_what_is_wrong() -> None:
    data = written(container())
    assert refusal(b"PK\x03\x04" + data[4:]) == (
        "Cannot unpack model.elp: it is not a file that pack wrote; get the file again, or pack the model again."
    )
    assert "it is truncated;" in refusal(data[:40])
    assert "its checksum does not match, so it is truncated or was changed;" in refusal(data[:-1])
    newer = data[:8] + b"\x02" + data[9:]
    assert "its format is 2, and this version reads 1;" in refusal(newer)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (container(replace(CODED, start=13), replace(PLAIN, start=12)), "within the one before it"),
        (container(CODED, replace(PLAIN, start=21)), "do not add up"),
        (container(CODED, replace(PLAIN, bytes=9)), "do not add up"),
        (container(CODED, replace(PLAIN, planes=9)), "is longer than it says"),
        (container(CODED, replace(PLAIN, planes=7)), "do not add up"),
        (container(skeleton=SKELETON[:-1]), "do not add up"),
        (container(bytes=29), "do not add up"),
        (container(planes=10**6), "shorter than it says"),
        (container(replace(CODED, payload=10**6), PLAIN), "shorter than it says"),
        (container(replace(CODED, payload=4), PLAIN), ""),
        (container(replace(CODED, coding="zip"), PLAIN), "its header is wrong at tensors.0.coding"),  # type: ignore[arg-type]
        (container(replace(CODED, bytes=-6), PLAIN), "its header is wrong at tensors.0.bytes"),
        (container(replace(CODED, values=513), PLAIN), "its header is wrong at tensors.0.values"),
        (container(replace(CODED, shape=(1,) * 65), PLAIN), "its header is wrong at tensors.0.shape"),
        (container(bytes=2**31), "its header is wrong at bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the wrong type that is written on purpose
def test_a_forged_header_is_refused(wrong: Container, why: str) -> None:
    made = replace(wrong, payloads=(b"c" * 5, b""))
    assert why in refusal(written(made))


def test_more_bytes_than_the_header_speaks_of_are_refused() -> None:
    assert "3 bytes follow" in refusal(resealed(written(container()) + b"abc"))


def test_lengths_beyond_the_limit_are_refused_before_anything_is_made() -> None:
    _, format_, head, header, skeleton, digest = PRELUDE.unpack_from(written(container()))
    behind = written(container())[PRELUDE.size :]
    huge = PRELUDE.pack(b"\x89ELP\r\n\x1a\n", format_, head, header, 2**62, digest) + behind
    assert f"it says that it holds {2**62} bytes" in refusal(resealed(huge))
    huge = PRELUDE.pack(b"\x89ELP\r\n\x1a\n", format_, head, LARGEST_HEADER + 1, skeleton, digest) + behind
    assert "it says that it holds" in refusal(resealed(huge))
    assert "more than 20 are not unpacked" in refusal(written(container()), largest=20)


def test_xz_makes_no_more_than_was_announced() -> None:
    bomb = compress(bytes(10**6))
    assert len(bomb) < 1000
    assert decompress(bomb, 10**6) == bytes(10**6)
    for length in (0, 10, 10**6 - 1, 10**6 + 1):
        with pytest.raises(ValueError, match="do not add up"):
            decompress(bomb, length)
    with pytest.raises(ValueError, match="do not add up"):
        decompress(bomb + b"more", 10**6)
