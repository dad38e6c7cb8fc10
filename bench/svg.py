"""Matplotlib figures as SVG fragments that live inside an HTML page and take their colours and fonts from it.

Figures are drawn in marker colours (`INK`, `MUTED`, ..., `series(i)`), each of which becomes a CSS variable in
the fragment, so that one drawing serves light and dark pages. The same figure always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, WARN = "#010201", "#010202", "#010203", "#010204", "#010205"
SERIES = 8
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper", WARN: "--warn"}
_VARIABLES.update({f"#0103{index:02x}": f"--c{index}" for index in range(SERIES)})
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
