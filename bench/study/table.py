"""A study as tables, one per student: cells as texts, the Markdown page, and what must be read beside them."""

from __future__ import annotations

from collections.abc import Sequence

from ..units import in_bytes, in_count, in_ratio, percent_decimals, ratio_digits, significant
from ..view import between, setting
from .records import LatencyRatio, StudyRecord
from .rows import Row, Spread, rows, students

HEADINGS = (
    "network",
    "top-1, % (95 %)",
    "retention",
    "not zero",
    "compression",
    "PE",
    "rank",
    "PE of bytes",
    "MACs",
    "file",
    "encoded",
    "packed",
    "latency (95 %)",
)

NAMES = {
    "teacher": "teacher",
    "student": "student, distilled",
    "unpruned": "unpruned, trained as long",
    "random-channels": "random channels",
    "channels": "channels",
    "weights": "weights",
}


def name(row: Row) -> str:
    """What a row is called: the kind, its budget, what it was matched by, the number format."""
    words = NAMES[row.kind]
    if row.budget is not None:
        words += f" {100 * row.budget:g} %"
    if row.matching is not None:
        words += f", same {row.matching.replace('-', ' ')}"
    return f"{words} (int8)" if row.number_format == "int8" else words


def cells(row: Row, record: StudyRecord) -> dict[str, str]:
    """The row's texts by heading, in the order of `HEADINGS`."""
    decimals = percent_decimals(_images(record))
    interval = between(100 * row.low, 100 * row.high, decimals)
    texts = (
        name(row),
        f"{_with_std(row.accuracy, 100, decimals)} ({interval})",
        f"{row.retention.mean:.3f}",
        in_count(row.nonzero),
        in_ratio(row.compression.mean),
        _figure(row.efficiency),
        "" if row.rank is None else str(row.rank),
        _figure(row.encoded_efficiency),
        in_count(row.macs),
        in_bytes(row.file_bytes),
        in_bytes(row.encoded_bytes),
        "" if row.packed_bytes is None else in_bytes(row.packed_bytes),
        "" if row.latency is None else _latency(row.latency),
    )
    return dict(zip(HEADINGS, texts, strict=True))


def markdown(record: StudyRecord) -> str:
    """The whole page, study.md."""
    lines = [f"# {record.name}", "", *_bullets(notes(record)), ""]
    found = rows(record)
    for student in students(record):
        lines += [f"## {student}", "", _line(HEADINGS), _line(["---"] + ["---:"] * (len(HEADINGS) - 1))]
        lines += [_line(list(cells(row, record).values())) for row in found if row.student == student]
        lines.append("")
    if record.refused:
        lines += ["## Not made", "", *_bullets([f"{each.cell.name}: {each.reason}" for each in record.refused]), ""]
    lines.append("![accuracy against size and latency](study.svg)")
    return "\n".join(lines) + "\n"


def notes(record: StudyRecord) -> list[str]:
    """What the figures mean and how far they go, one sentence each."""
    seeds = sorted({made.cell.seed for made in record.made})
    if len(seeds) == 1:
        repeats = f"One seed ({seeds[0]}): nothing here says how much another seed would change."
    else:
        repeats = f"{len(seeds)} seeds ({', '.join(map(str, seeds))}): means, and ± the standard deviation over them."
    found = [
        f"{record.done} of {record.planned} networks are done. {repeats}",
        f"{record.data.get('name')}, {_images(record)} test images. Intervals of accuracy are what so many images"
        " allow.",
        f"Retention, compression and PE refer to the float {record.reference}. PE (Performance Efficiency) is retention"
        " x compression: a reconstruction, because the published formula was not available. Ranks are by PE among"
        f" pruned networks of one number format that lose at most {record.tolerance:g} points.",
        "Not zero counts the parameters of the float file that are not zero. File is the ONNX file as it is, zeros"
        " included; encoded is its tensors without zeros (the other values, and the entropy of their places); packed is"
        " the file that edgelathe pack makes of it.",
    ]
    settings = {(ratio.runtime, ratio.threads, ratio.batch): None for ratio in _ratios(record)}
    for key in settings:
        found.append(f"Latency is a share of the unpruned float student's, measured in turn with it; {setting(*key)}.")
    if any(ratio.unstable for ratio in _ratios(record)):
        found.append("Ratios marked * should not be trusted; the report of their run, <network>/report.md, says why.")
    if len(record.environments) > 1:
        found.append("Not all was measured on the same machine; latency ratios of different rows may not be compared.")
    return found


def _ratios(record: StudyRecord) -> list[LatencyRatio]:
    return [made.latency for made in record.made if made.latency is not None]


def _images(record: StudyRecord) -> int:
    return record.made[0].accuracy.total if record.made else 0


def _with_std(spread: Spread, scale: float, decimals: int) -> str:
    text = f"{scale * spread.mean:.{decimals}f}"
    return text if spread.std is None else f"{text} ± {scale * spread.std:.{decimals}f}"


def _latency(found: LatencyRatio) -> str:
    interval = f"{ratio_digits(found.low)}\N{EN DASH}{ratio_digits(found.high)}"
    return f"{ratio_digits(found.ratio)}{'*' if found.unstable else ''} ({interval})"


def _figure(spread: Spread) -> str:
    text = significant(spread.mean)
    return text if spread.std is None else f"{text} ± {significant(spread.std, 2)}"


def _bullets(sentences: list[str]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
