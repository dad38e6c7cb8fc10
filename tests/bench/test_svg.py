from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from edgelathe.bench import svg


def drawn(name: str, text: str = "label") -> str:
    with svg.drawing():
        figure = svg.figure(3, 2)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 2], "o-", color=svg.series(0))
        axes.plot([0, 1], [1, 1], color=svg.WARN, alpha=0.5)
        axes.text(0.5, 0.5, svg.plain(text), color=svg.MUTED)
        return svg.fragment(figure, name, text)


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert drawn("one") == drawn("one")


def test_colours_and_fonts_come_from_the_page() -> None:
    text = drawn("one")
    for variable in ("--c0", "--warn", "--muted", "--line"):
        assert f"var({variable})" in text
    assert "#0102" not in text and "#0103" not in text
    assert "font-family" not in text and "<style" not in text


def test_nothing_points_outside() -> None:
    text = drawn("one")
    assert "http" not in text and "metadata" not in text and "DOCTYPE" not in text


def test_ids_belong_to_the_figure() -> None:
    root = ElementTree.fromstring(drawn("one"))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids and len(ids) == len(set(ids)) and all(name.startswith("one-") for name in ids)
    targets = {element.attrib["href"][1:] for element in root.iter() if "href" in element.attrib}
    clips = {e.attrib["clip-path"][5:-1] for e in root.iter() if "clip-path" in e.attrib}
    assert targets and clips and (targets | clips) <= set(ids)


def test_text_is_text_and_no_markup() -> None:
    odd = 'a<b> & $x_1$ "q" \\alpha \x00\n--> \N{CJK UNIFIED IDEOGRAPH-4E2D}'
    root = ElementTree.fromstring(drawn("one", odd))
    expected = 'a<b> & $x_1$ "q" \\alpha   --> \N{CJK UNIFIED IDEOGRAPH-4E2D}'
    assert expected in [element.text for element in root.iter("text")]
    assert root.attrib["aria-label"] == expected


def test_series_colours_repeat() -> None:
    assert svg.series(0) == svg.series(8) != svg.series(1)


def test_a_document_stands_alone_in_both_schemes() -> None:
    root = ElementTree.fromstring(svg.document(drawn("one")))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = root[0].text or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    assert "--c1: #2563c9;" in light and "--c1: #74abff;" in dark
    used = set(re.findall(r"var\((--\w+)\)", svg.document(drawn("one"))))
    assert used <= set(svg.PALETTE["light"]) == set(svg.PALETTE["dark"])
