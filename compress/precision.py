"""The number format, compilation and thread count of a training run: measured once, written down, reused.

Which format is faster depends on the processor, and a timing is never the same twice. So the choice is
written beside the checkpoint before the first epoch, and a run that is resumed or repeated there takes it
from the file.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import errors
from ..files import write_atomic
from .compiling import compile_anew

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[str, ...] = ("auto", *get_args(Precision))

ADVANTAGE = 1.15
"""bf16 must be this much faster to be chosen over float32, which is the more exact of the two."""
_SECONDS = 1.5
_ROUNDS = 8
_MOST_THREADS = 4096


@dataclass(frozen=True)
class Choice:
    precision: Precision
    compiled: bool
    threads: int
    images_per_second: Mapping[str, float]
    """What was measured, by candidate; empty where nothing was left to choose."""
    asked: Mapping[str, object]
    """The request that this answers."""


def autocast(precision: Precision) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def choose(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    precision: Literal["auto", "float32", "bf16"],
    compiled: bool | Literal["auto"],
    images: int,
    threads: int,
    folder: Path | None,
) -> Choice:
    """Answer "auto" by measuring a few steps on copies of `model`; the training will see `images` images.

    Reads `folder`/choice.json when it answers the same request, else writes it. `model` stays untouched.
    """
    asked: dict[str, object] = {"precision": precision, "compiled": compiled}
    path = folder / "choice.json" if folder else None
    if path and path.exists() and (found := _read(path)).asked == asked:
        return found
    measured: dict[str, float] = {}
    chosen: Precision = "float32"
    if precision == "auto":
        steps = {name: _stepper(model, inputs, labels, name) for name in get_args(Precision)}
        measured = _speeds(steps, len(labels))
        if measured["bf16"] > ADVANTAGE * measured["float32"]:
            chosen = "bf16"
    else:
        chosen = precision
    compiling = compiled is True
    if compiled == "auto":
        compiling = _compiling_pays(model, inputs, labels, chosen, images, measured)
    choice = Choice(chosen, compiling, threads, measured, asked)
    if path:
        write_atomic(path, json.dumps(asdict(choice), indent=2, sort_keys=True) + "\n", "the training choice")
    return choice


def _read(path: Path) -> Choice:
    do = "delete its folder to start this training afresh"
    try:
        choice = Choice(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as reason:
        raise errors.inputs.unreadable_file("the training choice", path, "it is not whole", do) from reason
    sound = choice.precision in get_args(Precision) and isinstance(choice.compiled, bool)
    if not sound or not isinstance(choice.threads, int) or not 1 <= choice.threads <= _MOST_THREADS:
        raise errors.inputs.unreadable_file("the training choice", path, "it holds impossible values", do)
    return choice


def training_step(
    model: nn.Module, forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, precision: Precision
) -> Callable[[], None]:
    """One step of training `model`, called as `forward`, on this batch, whenever it is called."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        with autocast(precision):
            logits = forward(inputs)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def _stepper(
    model: nn.Module, inputs: Tensor, labels: Tensor, precision: Precision, compiled: bool = False
) -> Callable[[], None]:
    trial = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
    return training_step(trial, compile_anew(trial) if compiled else trial, inputs, labels, precision)


def _speeds(steps: Mapping[str, Callable[[], None]], batch: int) -> dict[str, float]:
    """Images per second of each candidate, from the fastest of interleaved steps; the first is warm-up."""
    began = time.perf_counter()
    best = dict.fromkeys(steps, float("inf"))
    with torch.random.fork_rng(devices=[]):
        for step in steps.values():
            step()
        for _ in range(_ROUNDS):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                best[name] = min(best[name], time.perf_counter() - start)
            if time.perf_counter() - began > _SECONDS:
                break
    return {name: round(batch / seconds, 1) for name, seconds in best.items()}


def _compiling_pays(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    precision: Precision,
    images: int,
    measured: dict[str, float],
) -> bool:
    """Whether compiling, its own time included, ends the training sooner; no if it fails."""
    plain = _stepper(model, inputs, labels, precision)
    measured.update(_speeds({precision: plain}, len(labels)))
    began = time.perf_counter()
    try:
        compiled = _speeds({"compiled": _stepper(model, inputs, labels, precision, True)}, len(labels))["compiled"]
    except Exception:  # no C++ compiler, or a network that it cannot translate: plain torch still works
        return False
    cost = time.perf_counter() - began
    measured[f"{precision} compiled"] = compiled
    return images / compiled + cost < images / measured[precision]
