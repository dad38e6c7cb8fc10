"""A run in progress: its stages, each done in a folder of its own or found there, finished."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..bench.records import StageRecord
from ..compress.parallel import ALONE, Team
from ..data import Dataset, Preprocess
from ..recipe import Recipe
from ..runfolder import StageFolder, find_stage, finish_stage, stage_key


class Steps:
    """Numbers the stage folders of a run and collects their records."""

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        folder: Path,
        say: Callable[[str], None],
        progress: bool,
        team: Team = ALONE,
    ) -> None:
        self.recipe, self.data, self.folder, self.team = recipe, data, folder, team
        self.say = say if team.is_main else lambda _: None
        self.progress = progress and team.is_main
        self.records: list[StageRecord] = []

    def add(self, line: str) -> None:
        """Say something about the stage in progress."""
        self.say(f"  {line}")

    def stage(
        self, do: str, settings: dict[str, Any], work: Callable[[StageFolder], dict[str, Any]], trains: bool = False
    ) -> StageFolder:
        """Find a stage's finished folder or do its work; `work` returns what the record says beside its key.

        Of several processes only the main one works and writes, but all work where a network `trains`: what the others
        write goes to a folder that is thrown away.
        """
        key = stage_key({"do": do, "seed": self.recipe.seed, "data": self.data.fingerprint, **settings})
        folder = self._of_main(lambda: find_stage(self.folder, f"{len(self.records) + 1}-{do}", key))
        if folder.whole:
            self.say(f"{do}: already done")
        else:
            self.say(do)
            record = {"do": do, "key": folder.key, "folder": folder.name, "settings": settings}
            if trains and not self.team.is_main:
                with tempfile.TemporaryDirectory() as aside:
                    work(replace(folder, path=Path(aside)))
            folder = self._of_main(lambda: finish_stage(folder, record | work(folder)))
        record = folder.record()
        self.records.append(
            StageRecord.model_validate({name: record[name] for name in StageRecord.model_fields if name in record})
        )
        self.add(self.records[-1].summary)
        return folder

    def _of_main(self, made: Callable[[], StageFolder]) -> StageFolder:
        """The folder that the main process makes or finds, when all processes have come here."""
        if self.team.size == 1:
            return made()

        def described() -> dict[str, Any]:
            folder = made()
            return {**vars(folder), "path": str(folder.path)}

        found = self.team.agreed(described)
        return StageFolder(**{**found, "path": Path(found["path"])})


def normalisation_of(preprocess: Preprocess) -> list[list[float]]:
    """As part of a stage's key."""
    return [list(preprocess.mean), list(preprocess.std)]
