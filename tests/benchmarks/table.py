"""A benchmark as Markdown: one table, and beneath it what a reader must know about the figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgelathe.bench.records import Accuracy
from edgelathe.bench.stats import mcnemar
from edgelathe.bench.units import in_bytes, in_ms, in_percent, in_points, percent_decimals

from .parts import Benchmark, Entry, Part
from .peers import BAR

HEADINGS = (
    "network", "tool", "top-1", "hard top-1", "agreement", "SNR", "against bar", "latency", "size",
    "int8 MACs", "s", "MB",
)  # fmt: skip
NAMES = frozenset({"network", "tool", "criterion", "student"})
NOTHING = ""


def as_markdown(benchmark: Benchmark) -> str:
    rows = [row for part in benchmark.parts for row in part_rows(part)]
    return "\n\n".join([markdown_table(HEADINGS, rows), "\n".join(f"- {note}" for note in notes(benchmark))]) + "\n"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of `NAMES` to the left, figures to the right."""
    rule = ["---" if heading in NAMES else "---:" for heading in headings]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def part_rows(part: Part) -> list[list[str]]:
    """One row per tool; float's own accuracy and latency, and of the others the change and the share."""
    reference, *others = part.entries
    same = _same_images(part)
    rows = [_row(NOTHING, entry, reference, same_images=same) for entry in others]
    return [_row(part.network, reference, None, same_images=same), *rows]


def _row(network: str, entry: Entry, reference: Entry | None, *, same_images: bool) -> list[str]:
    if entry.failure:
        return [network, entry.tool, "failed", *[NOTHING] * (len(HEADINGS) - 3)]
    agreement, facts = entry.agreement, entry.facts
    return [
        network,
        entry.tool,
        _top1(entry.top1, None if reference is None else reference.top1),
        NOTHING if same_images else _top1(entry.hard_top1, None if reference is None else reference.hard_top1),
        NOTHING if agreement is None else in_percent(agreement.top1, agreement.total),
        NOTHING if entry.snr_db is None else f"{entry.snr_db:.1f} dB",
        _against_bar(entry),
        _latency(entry, reference is None),
        NOTHING if facts is None else in_bytes(facts.file_bytes),
        NOTHING if facts is None or reference is None else in_percent(facts.int8_macs / max(1, facts.macs)),
        NOTHING if entry.seconds is None else f"{entry.seconds:.1f}",
        NOTHING if entry.peak_bytes is None else f"{entry.peak_bytes / 1e6:.0f}",
    ]


def notes(benchmark: Benchmark) -> list[str]:
    repeats = max((len(entry.costs) for part in benchmark.parts for entry in part.entries), default=0)
    lines = [
        f"top-1 and hard top-1: of float, and of the others the change in points; agreement with float and hard top-1 "
        f"are over the same images; against bar: images classified as float does by this tool alone and by {BAR} alone,"
        " with McNemar's exact p",
        "SNR: power of the float logits over that of their difference, on the images of agreement",
        "latency: one thread, batch 1, interleaved; of float in ms, of the others its share with a 95 % interval",
        f"s, MB: the whole process from its start, median of {repeats}; peak resident memory in units of 10^6 bytes",
    ]
    for part in benchmark.parts:
        lines.append(f"{part.network}: {part.about}; calibrated on {part.calibration}" + _tested_on(part))
        lines += [*_doubts(part), *_twins(part)]
        for entry in part.entries:
            if entry.failure:
                lines.append(f"{part.network}, {entry.tool} failed: {entry.failure}")
    lines += [f"{entry.tool}: {entry.settings} ({_versions(entry)})" for entry in _tools(benchmark)]
    lines += [f"{name}: not installed" for name in benchmark.missing]
    found = benchmark.environment
    lines.append(f"{found.cpu}, {found.cores} cores, {', '.join(found.isa)}; seed {benchmark.seed}")
    lines.append(f"`{benchmark.command}`")
    return lines


def _doubts(part: Part) -> list[str]:
    """Why latencies marked with ? should not be trusted, from the first of them."""
    doubtful = [entry for entry in part.entries if entry.latency is not None and entry.latency.unstable]
    if not doubtful or doubtful[0].latency is None:
        return []
    reasons = "; ".join(doubtful[0].latency.unstable)
    return [f"{part.network}: {len(doubtful)} doubtful latencies (?), that of {doubtful[0].tool} because {reasons}"]


def _twins(part: Part) -> list[str]:
    """Tools that wrote the same bytes: such a file is measured once."""
    first: dict[str, str] = {}
    lines = []
    for entry in part.entries:
        if entry.facts is not None:
            twin = first.setdefault(entry.facts.sha256, entry.tool)
            lines += [f"{part.network}: {entry.tool} wrote the same bytes as {twin}"] if twin != entry.tool else []
    return lines


def _same_images(part: Part) -> bool:
    return part.agreement_images == part.top1_images


def _tested_on(part: Part) -> str:
    hard = part.entries[0].hard_top1
    if part.agreement_images is None:
        return "; no accuracy"
    if hard is None:
        return f"; agreement and SNR on {part.agreement_images}, no accuracy"
    score = in_percent(hard.top1, hard.total)
    where = f"{part.agreement_images}, of which float has {score} right"
    if _same_images(part):
        return f"; top-1 and agreement on {where}"
    return f"; top-1 on {part.top1_images}; hard top-1 and agreement on {where}"


def _top1(own: Accuracy | None, reference: Accuracy | None) -> str:
    if own is None:
        return NOTHING
    if reference is None:
        return in_percent(own.top1, own.total)
    return in_points(100 * (own.top1 - reference.top1), percent_decimals(own.total))


def _against_bar(entry: Entry) -> str:
    if entry.against_bar is None:
        return NOTHING
    gained, lost = entry.against_bar
    return f"+{gained} -{lost}, p {mcnemar(gained, lost):.2g}"


def _latency(entry: Entry, reference: bool) -> str:
    found = entry.latency
    if found is None:
        return NOTHING
    doubt = " ?" if found.unstable else ""
    if reference:
        return in_ms(found.median_ms) + doubt
    return f"{found.ratio:.3f} ({found.ratio_low:.3f}\N{EN DASH}{found.ratio_high:.3f}){doubt}"


def _tools(benchmark: Benchmark) -> list[Entry]:
    """The first entry of every tool but float."""
    first: dict[str, Entry] = {}
    for part in benchmark.parts:
        for entry in part.entries[1:]:
            first.setdefault(entry.tool, entry)
    return list(first.values())


def _versions(entry: Entry) -> str:
    return ", ".join(f"{package} {version}" for package, version in entry.versions.items())
