"""Kinds of pruning compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .saying import Say, silent

if TYPE_CHECKING:
    from ..bench.latency import Progress
    from ..bench.study.records import StudyRecord
    from ..studyrecipe import Study


def study(
    study: Study | Path | str,
    *,
    overrides: Sequence[str] = (),
    runs: Path | str = "runs",
    say: Say = silent,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[StudyRecord, Path]:
    """Carry out a study: a file, the name of a shipped one, or a `Study`; continues what was interrupted.

    Returns the record and the study's folder, which holds it as study.json with a table and a plot. Raises
    EdgeLatheError for bad input.
    """
    from ..studyrecipe import Study, load_study
    from ..studyrun import run as run_study

    if not isinstance(study, Study):
        study = load_study(study, overrides)
    elif overrides:
        raise TypeError("overrides change the keys of a study file; a Study is changed with model_copy(update=...)")
    return run_study(study, runs=runs, say=say, progress=progress, on_round=on_round)
