"""What a recipe measures on its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..bench.environment import environment
from ..bench.latency import Progress
from ..candidates import Deployable, measure
from ..files import sha256_file, write_atomic
from ..runfolder import StageFolder
from .steps import Steps, normalisation_of

MEASURED = "measured.json"


def benched(steps: Steps, files: list[Deployable], on_round: Callable[[Progress], None] | None) -> dict[str, Any]:
    """The measurements, with when and where they were taken: a report made anew from them is the same report."""
    section = steps.recipe.bench
    settings = {
        "bench": section.model_dump(mode="json"),
        "files": {file.name: [sha256_file(file.path), normalisation_of(file.preprocess)] for file in files},
        "environment": environment().fingerprint,
        "classes": list(steps.data.classes),
    }

    def work(folder: StageFolder) -> dict[str, Any]:
        candidates = measure(
            files,
            section,
            images=steps.data.test,
            classes=steps.data.classes,
            root=steps.folder,
            seed=steps.recipe.seed,
            say=lambda line: steps.say(f"  {line}"),
            on_round=on_round,
        )
        measured = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": environment().model_dump(mode="json"),
            "candidates": [candidate.model_dump(mode="json") for candidate in candidates],
        }
        write_atomic(folder.path / MEASURED, json.dumps(measured, indent=1) + "\n", "the measurements")
        return {"settings": section.model_dump(mode="json"), "summary": f"Measured {len(candidates)} files"}

    folder = steps.stage("bench", settings, work)
    return json.loads((folder.path / MEASURED).read_text(encoding="utf-8"))
