"""Matplotlib figures as SVG fragments that live inside an HTML page and take their colours and fonts from it.

Figures are drawn in marker colours (`INK`, `MUTED`, ..., `series(i)`), each of which becomes a CSS variable in
the fragment, so that one drawing serves light and dark pages. `document` makes a file of its own of one. The same
figure always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, WARN = "#010201", "#010202", "#010203", "#010204", "#010205"
SERIES = 8
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper", WARN: "--warn"}
_VARIABLES.update({f"#0103{index:02x}": f"--c{index}" for index in range(SERIES)})
PALETTE = {
    "light": {
        "--paper": "#ffffff", "--ink": "#1c2127", "--muted": "#626c78", "--line": "#dfe3e7", "--warn": "#8f5f00",
        "--c0": "#5d6875", "--c1": "#2563c9", "--c2": "#bf5510", "--c3": "#0d7d71",
        "--c4": "#7a4cba", "--c5": "#8d6a0a", "--c6": "#b4326c", "--c7": "#55761b",
    },
    "dark": {
        "--paper": "#15181c", "--ink": "#e4e7ea", "--muted": "#98a2ae", "--line": "#30363d", "--warn": "#e0b04c",
        "--c0": "#a6b0bc", "--c1": "#74abff", "--c2": "#f0965a", "--c3": "#43c2b2",
        "--c4": "#b898f2", "--c5": "#d8b54e", "--c6": "#f08ab4", "--c7": "#a2c55d",
    },
}  # fmt: skip
"""What the variables are in light and in dark pages."""
_MARKER = re.compile(r"#010[23][0-9a-f]{2}")
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"

STYLE: dict[str, object] = {
    "svg.hashsalt": "edgelathe",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Plot:
    title: str
    svg: str
    note: str
    """How to read it, one sentence."""


def series(index: int) -> str:
    """The marker colour of the index-th candidate; colours repeat after eight."""
    return f"#0103{index % SERIES:02x}"


def plain(text: str) -> str:
    """`text` on one line without control characters, which SVG cannot hold."""
    return "".join(" " if unicodedata.category(letter).startswith(("C", "Z")) else letter for letter in text)


@contextmanager
def drawing() -> Iterator[None]:
    """The page's style; quiet about letters the measuring font lacks, since the page's font draws them."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches, free of pyplot's global state."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def fragment(drawn: Figure, name: str, label: str) -> str:
    """`drawn` as an <svg> element: ids start with `name` (unique in the page), `label` describes it.

    Call it inside `drawing()`, which sets the style that SVG is written with.
    """
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawn.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    source = ElementTree.fromstring(buffer.getvalue())
    root = _rewritten(source, name)
    width, height = drawn.get_size_inches()
    root.attrib = {
        "viewBox": source.attrib["viewBox"],
        "class": "plot",
        "role": "img",
        "aria-label": plain(label),
        "style": f"max-width: {width * 96:.0f}px; aspect-ratio: {width:g} / {height:g}",
    }
    return ElementTree.tostring(root, encoding="unicode")


def document(svg: str) -> str:
    """A fragment as a file that stands alone: with its colours, on its own background, in the reader's sans-serif."""
    root = ElementTree.fromstring(svg)
    root.set("xmlns", _SVG.strip("{}"))
    root.set("style", f"{root.attrib['style']}; background: var(--paper); font-family: sans-serif")
    style = ElementTree.Element("style")
    style.text = (
        f":root {{ {variables('light')} }} @media (prefers-color-scheme: dark) {{ :root {{ {variables('dark')} }} }}"
    )
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def variables(scheme: str) -> str:
    """The declarations of the "light" or "dark" colours."""
    return " ".join(f"{name}: {colour};" for name, colour in PALETTE[scheme].items())


def _rewritten(source: ElementTree.Element, name: str) -> ElementTree.Element:
    element = ElementTree.Element(source.tag.removeprefix(_SVG))
    for key, value in source.attrib.items():
        if key == "id":
            element.set("id", f"{name}-{value}")
        elif key == _HREF:
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key == "clip-path":
            element.set(key, value.replace("url(#", f"url(#{name}-"))
        elif key == "style":
            element.set(key, _styled(value))
        elif key != "transform" or not value.startswith("rotate(-0 "):
            element.set(key, value)
    element.text = source.text if source.text and source.text.strip() else None
    for child in source:
        if child.tag not in (f"{_SVG}metadata", f"{_SVG}style"):
            element.append(_rewritten(child, name))
    return element


def _styled(style: str) -> str:
    """Marker colours become variables; the font family is the page's."""
    kept = [part for part in style.split("; ") if not part.startswith("font-family")]
    return _MARKER.sub(lambda match: f"var({_VARIABLES[match[0]]})", "; ".join(kept))
