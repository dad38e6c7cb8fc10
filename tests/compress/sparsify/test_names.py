from __future__ import annotations

import pytest
from edgelathe.compress.sparsify.names import check_gradual, keep_share, read_pattern
from edgelathe.errors import EdgeLatheError


@pytest.mark.parametrize(
    ("name", "kind", "numbers", "keep"),
    [
        ("unstructured", "unstructured", (), None),
        ("kernel", "kernel", (), None),
        ("2:4", "N:M", (2, 4), 0.5),
        ("1:16", "N:M", (1, 16), 0.0625),
        ("4x1", "RxC", (4, 1), None),
        ("strided-3", "strided-S", (3,), 1 / 3),
    ],
)
def test_a_name_says_kind_numbers_and_sometimes_the_share(
    name: str, kind: str, numbers: tuple[int, ...], keep: float | None
) -> None:
    read = read_pattern(name)
    assert (read.kind, read.numbers, read.keep) == (kind, numbers, keep)


@pytest.mark.parametrize("name", ["", "4:4", "5:4", "0:4", "1x1", "2x", "strided-1", "strided", "Unstructured", "2:4 "])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(EdgeLatheError, match="Unknown pattern"):
        read_pattern(name)


def test_the_share_is_half_unless_given_or_said_by_the_pattern() -> None:
    assert keep_share(read_pattern("kernel"), None) == 0.5
    assert keep_share(read_pattern("kernel"), 0.1) == 0.1
    assert keep_share(read_pattern("1:4"), None) == keep_share(read_pattern("1:4"), 0.25) == 0.25


@pytest.mark.parametrize(("name", "keep"), [("2:4", 0.3), ("strided-2", 0.4), ("kernel", 0.0), ("kernel", 1.0)])
def test_impossible_shares_are_refused(name: str, keep: float) -> None:
    with pytest.raises(EdgeLatheError, match=f"Cannot use keep = {keep}: it must be "):
        keep_share(read_pattern(name), keep)


def test_strided_patterns_cannot_come_gradually() -> None:
    check_gradual(read_pattern("2:4"))
    with pytest.raises(EdgeLatheError, match="Cannot sparsify gradually in the pattern strided-2"):
        check_gradual(read_pattern("strided-2"))
