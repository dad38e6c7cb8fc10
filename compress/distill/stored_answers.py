"""What a teacher answers to a fixed number of views of the training images, computed once and read in every epoch.

A view augments every training image in one way, drawn from (seed, view), and comes back bit for bit (`views` of
`train`). Its answers are one file, float16 [images, classes] as numpy writes it, each row less its largest logit:
softened or not, probabilities do not depend on that, and so the rounding is finest where they are largest. Files carry
their SHA-256 in `answers.json`, which also says whose answers they are; a view does not depend on how many there are,
and a student that asks for more of them adds to the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ... import errors
from ...data import Dataset
from ...files import remove_leftovers, sha256_bytes, sha256_file, write_atomic
from ..allocator import keeping_freed_memory
from ..augment import Augment, view_draws
from ..objective import Batch, as_tensor
from ..parallel import speaks, team
from ..precision import Precision
from ..threads import using_threads
from .answering import Answering, AnsweringProgress, check_space, faster_precision
from .teachers import Teacher

FORMAT = 1
HEADER = "answers.json"
FOLDER = "teacher-answers"
"""Where the students of a folder of runs share them."""


@dataclass(frozen=True)
class _Header:
    format: int
    teacher: dict[str, object]
    data: str
    augment: str
    seed: int
    asked: str
    """Number format, as asked for."""
    precision: Precision
    """In which the teacher answers."""
    images: int
    classes: int
    views: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that are whole, by number of the view."""

    def identity(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name not in ("precision", "views")}


@dataclass(frozen=True)
class StoredAnswers:
    """Logits, less the largest of each row, of one teacher to all views of the training images."""

    views: tuple[np.ndarray, ...]
    """float16 [images, classes] each, memory-mapped."""
    precision: Precision
    kept: object = None
    """What the files live as long as, where nobody keeps them."""

    def settings(self) -> Mapping[str, object]:
        return {"stored_views": len(self.views), "stored_precision": self.precision}

    def __call__(self, batch: Batch) -> Tensor:
        """float32 [N, classes], to the images of `batch`."""
        view = self.views[batch.view % len(self.views)]
        return torch.from_numpy(view[batch.numbers.numpy()].astype(np.float32))


def stored_answers(
    teacher: Teacher,
    data: Dataset,
    *,
    augment: Augment,
    views: int,
    seed: int = 0,
    precision: Literal["auto", "float32", "bf16"] = "auto",
    threads: int | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> StoredAnswers:
    """The answers of `teacher` to `views` views of `data.train`; what is not in `folder` is computed and put there.

    precision -- in which the teacher computes; "auto" measures, and takes bf16 only where it is clearly faster.
    folder    -- has a folder in it for every teacher, data set, augmentation and seed; None: they are kept as long as
                 the result is.

    Every view is written whole or not at all, so that a killed process continues at the view where it was; files that
    are damaged are computed again, and it is said so. Raises EdgeLatheError for answers that are not finite, too little
    space on disk and answers of another teacher.
    """
    assert data.train is not None, "check_fit refuses it"
    temporary = tempfile.TemporaryDirectory(prefix="edgelathe-") if folder is None else None
    root = Path(temporary.name) if temporary else folder
    assert root is not None
    images = as_tensor(data.train.x)
    answering = Answering(teacher, images)
    blank = _Header(
        FORMAT, dict(teacher.settings()), data.fingerprint, augment, seed, precision, "float32", len(images),
        answering.classes,
    )  # fmt: skip
    home = root / sha256_bytes(json.dumps(blank.identity(), sort_keys=True).encode())[:16]
    wanted = range(distinct_views(augment, views))
    with (
        using_threads(threads or torch.get_num_threads()),
        keeping_freed_memory(),
        AnsweringProgress(teacher.name, images=len(images), shown=progress and speaks()) as view,
    ):
        # Processes that train together may not share a disk, but must learn from the same answers.
        chosen = team().agreed(lambda: _precision(home, blank, answering, view))
        with _alone_in(home):
            header = _read(home, blank, view) or replace(blank, precision=chosen)
            whole = [number for number in wanted if _is_whole(home, header, number, view)]
            missing = [number for number in wanted if number not in whole]
            check_space(home, len(missing), blank.images, blank.classes, view)
            for number in missing:
                draws = view_draws(augment, *images.shape[:3], seed=seed, view=number)
                view.begin(number, len(wanted))
                answering.write(_file(home, number), number, draws, header.precision, view)
                header = replace(header, views=header.views | {str(number): sha256_file(_file(home, number))})
                write_atomic(home / HEADER, json.dumps(asdict(header), indent=1, sort_keys=True) + "\n", _WHAT)
    opened = tuple(_opened(_file(home, number)) for number in wanted)
    return StoredAnswers(opened, header.precision, temporary)


_WHAT = "the teacher's answers"


def distinct_views(augment: Augment, views: int) -> int:
    """Without augmentation all views are the same pixels."""
    return 1 if augment == "none" else views


def _file(home: Path, number: int) -> Path:
    return home / f"view-{number:03d}.npy"


@contextlib.contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """One process computes; others that need the same answers wait for it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as reason:
        raise errors.inputs.unwritable_file(_WHAT, home, reason.strerror or str(reason)) from reason
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_leftovers(home)
        yield


def _precision(home: Path, blank: _Header, answering: Answering, view: AnsweringProgress) -> Precision:
    """Of answers that are there already, theirs."""
    found = _read(home, blank, view)
    if found:
        return found.precision
    return faster_precision(answering) if blank.asked == "auto" else _given(blank.asked)


def _given(asked: str) -> Precision:
    return "bf16" if asked == "bf16" else "float32"


def _read(home: Path, blank: _Header, view: AnsweringProgress) -> _Header | None:
    """The header in `home`; None where there is none, or a damaged one."""
    path = home / HEADER
    try:
        found = TypeAdapter(_Header).validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        view.say(f"{path} is damaged: the teacher's answers are computed again.")
        return None
    ours = blank.identity()
    different = [name for name, value in found.identity().items() if value != ours[name]]
    if different:
        raise errors.answers.foreign_answers(path, different)
    return found


def _opened(path: Path) -> np.memmap:
    """Raises OSError and ValueError for what is no whole array of numbers."""
    return np.lib.format.open_memmap(path, mode="r")


def _is_whole(home: Path, header: _Header, number: int, view: AnsweringProgress) -> bool:
    path, sha256 = _file(home, number), header.views.get(str(number))
    if sha256 is None or not path.is_file():
        return False
    try:
        array = _opened(path)
        sound = array.dtype == np.float16 and array.shape == (header.images, header.classes)
    except (OSError, ValueError):
        sound = False
    if sound and sha256_file(path) == sha256:
        return True
    view.say(f"{path} is damaged: its view of the training images is answered again.")
    return False
