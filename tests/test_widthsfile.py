from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from edgelathe.errors import EdgeLatheError
from edgelathe.widthsfile import read_widths, widths_text
from hypothesis import given
from hypothesis import strategies as st


def test_names_may_be_quoted_or_not(tmp_path: Path) -> None:
    path = tmp_path / "widths.toml"
    path.write_text('[widths]\nlayer1.0.conv1 = 8\n"layer1.1.conv1" = 0.5\nstem = 1.0\n[widths.layer2]\n0 = 4\n')
    assert read_widths(path) == {"layer1.0.conv1": 8, "layer1.1.conv1": 0.5, "stem": 1.0, "layer2.0": 4}


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(lambda name: "." not in name)


@given(widths=st.dictionaries(names, st.integers(1, 4096)), remark=st.text())
def test_what_is_written_is_read_again(
    widths: dict[str, int], remark: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("widths") / "widths.toml"
    rows = [(layer, count, remark) for layer, count in widths.items()]
    path.write_text(widths_text(rows, [remark, "head"], [remark]), encoding="utf-8")
    assert read_widths(path) == widths


def test_remarks_are_comments() -> None:
    text = widths_text([("a.b", 8, "of 16"), ("stem", 16, "two\nlines")], ["for x"], ['"fc" = 10  # of 10'])
    assert text == '# for x\n\n[widths]\n"a.b" = 8    # of 16\n"stem" = 16  # two lines\n# "fc" = 10 # of 10\n'
    assert tomllib.loads(text) == {"widths": {"a.b": 8, "stem": 16}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Cannot use the widths in {}: it has no table called widths; write a table [widths] of lines such as"),
        ("widths = 3", "Cannot use the widths in {}: it has no table called widths; "),
        ("[width]\na = 1", 'Unknown key "width" in {}: did you mean "widths"?'),
        ("[widths]\na = 0", "Cannot use the widths in {}: 0 for a is neither a count nor a share of channels; "),
        ("[widths]\na.b = -1", "Cannot use the widths in {}: -1 for a.b is neither "),
        ("[widths]\na = 1.5", "Cannot use the widths in {}: 1.5 for a is neither "),
        ("[widths]\na = nan", "Cannot use the widths in {}: nan for a is neither "),
        ("[widths]\na = true", "Cannot use the widths in {}: True for a is neither "),
        ('[widths]\na = "8"', "Cannot use the widths in {}: '8' for a is neither "),
        ("[widths]\na = [8]", "Cannot use the widths in {}: [8] for a is neither "),
        ("[widths]\na = = 8", "Cannot read the widths {}: it is not valid TOML ("),
        (f"[widths]\n{'.'.join('a' * 3000)} = 'x'", "Cannot use the widths in {}: 'x' for a.a.a."),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(EdgeLatheError) as caught:
        read_widths(path)
    assert str(caught.value).startswith(sentence.format(path))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match="there is no such file; check the path"):
        read_widths(tmp_path / "none.toml")
    with pytest.raises(EdgeLatheError, match=r"Cannot read the widths .*: Is a directory; check the path"):
        read_widths(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(EdgeLatheError, match="it is not valid TOML"):
        read_widths(tmp_path / "bytes.toml")
