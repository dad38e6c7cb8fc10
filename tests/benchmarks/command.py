"""What the benchmarks' commands share: where the data are, what is said on the way, how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath

from edgelathe import errors
from edgelathe.errors import EdgeLatheError


def end_well(run: Callable[[], int]) -> int:
    """Exit code of `run`: what it says, 2 for bad input, 130 when interrupted."""
    try:
        return run()
    except EdgeLatheError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("Interrupted; what was finished is kept, and the same command continues.")
        return 130


def data_folder() -> Path:
    """The folder of real images and weights. Raises EdgeLatheError when it is not named or not there."""
    folder = os.environ.get("EDGELATHE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        raise errors.inputs.impossible_setting("EDGELATHE_TEST_DATA", folder, "the folder of test images and weights")
    return Path(folder).resolve()


def portable_command(module: str, arguments: Sequence[str]) -> str:
    """The command as anybody could give it: folders of this machine are cut off."""
    short = (PurePath(argument).name if PurePath(argument).is_absolute() else argument for argument in arguments)
    return " ".join([f"python -m {module}", *short])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
