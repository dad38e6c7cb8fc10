"""What a benchmark has found so far: one part per network, kept as it finishes, and the record of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TypeVar

import edgelathe
from edgelathe.bench.records import Accuracy, Environment, GraphFacts, Latency, Record
from edgelathe.files import sha256_bytes, write_atomic
from pydantic import ValidationError

from .cost import Cost

MEASURED = ("bench", "compress/quantize", "export", "models")
"""Folders of the package whose code decides what a part says."""


class Entry(Record):
    """One tool on one network; of a tool that failed, only the reason."""

    tool: str
    settings: str
    versions: dict[str, str]
    costs: tuple[Cost, ...] = ()
    """One per repetition."""
    facts: GraphFacts | None = None
    top1: Accuracy | None = None
    hard_top1: Accuracy | None = None
    """Top-1 on the images of `agreement`."""
    agreement: Accuracy | None = None
    """Share of images classified as the float network does."""
    snr_db: float | None = None
    """Signal to quantization noise of the logits, on the images of `agreement`."""
    against_bar: tuple[int, int] | None = None
    """Of those images, how many only this tool, and how many only the bar, classifies as float does."""
    latency: Latency | None = None
    failure: str = ""

    @property
    def seconds(self) -> float | None:
        return median(cost.seconds for cost in self.costs) if self.costs else None

    @property
    def peak_bytes(self) -> float | None:
        return median(cost.peak_bytes for cost in self.costs) if self.costs else None


class Part(Record):
    """One network."""

    key: str
    """Hash of everything that decides the figures: a part with another key is measured anew."""
    network: str
    about: str
    """One sentence on its weights."""
    calibration: str
    top1_images: str | None
    agreement_images: str | None
    created: str
    entries: tuple[Entry, ...]
    """Float first."""


class Benchmark(Record):
    command: str
    created: str
    seed: int
    environment: Environment
    missing: tuple[str, ...]
    """Peers that are not installed."""
    parts: tuple[Part, ...]


Kept = TypeVar("Kept", bound=Record)


def read_kept(path: Path, kind: type[Kept], key: str) -> Kept | None:
    """What an earlier run left at `path`, if it was made from the same things."""
    try:
        kept = kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return kept if getattr(kept, "key", None) == key else None


def write_record(path: Path, record: Record) -> None:
    """Raises EdgeLatheError when the file cannot be written."""
    write_atomic(path, record.model_dump_json(indent=1) + "\n", "the record")


def key_of(**facts: object) -> str:
    return sha256_bytes(json.dumps(facts, sort_keys=True, default=str).encode())[:16]


def code_hash() -> str:
    """Hash over the code that is measured and measures."""
    root = Path(edgelathe.__file__).parent
    files = sorted(path for folder in MEASURED for path in (root / folder).rglob("*.py"))
    return sha256_bytes(b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files))
