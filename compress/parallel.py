"""The processes that train together, each with its share of every batch.

`accelerate launch` and torchrun start several and tell them so through the environment; Accelerate joins them, over
gloo and on CPUs. Without a launcher a process is alone, and asking for the team loads neither torch nor Accelerate.

Gradients are summed once per step, in one message, instead of by DistributedDataParallel: so hooks, modules that are
learned beside the network, unused parameters and shares of unequal size need no special care, and the networks are
small. What all processes must agree on is decided by the main one and sent to the others as JSON.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .. import errors

if TYPE_CHECKING:
    from torch import Tensor

_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where launchers say how many processes there are and which of them this is: those that Accelerate reads."""

_PATIENCE = timedelta(days=7)
"""The others wait while the main process exports and measures. A process that dies is noticed at once."""


@dataclass(frozen=True)
class Team:
    """The processes of one launch, seen from one of them. Each must make the same calls in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def own(self, count: int) -> slice:
        """This process's share of `count` things in a row; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def check(self, *, batch: int, compiled: bool | str) -> None:
        """Raises EdgeLatheError for settings that these processes cannot train under together."""
        if batch < self.size:
            raise errors.training.too_many_processes(batch, self.size)
        if self.size > 1 and compiled is True:
            raise errors.inputs.impossible_setting("compiled", compiled, f"false in {self.size} processes")

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their sums over all processes, the same bits in each of them."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with _reaching_the_others():
            distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def gathered(self, tensor: Tensor) -> Tensor:
        """[size, ...]: what each process has in a tensor of the same shape."""
        import torch
        from torch import distributed

        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _reaching_the_others():
            distributed.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def take_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Fill tensors with what they hold in the main process."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        for tensor in tensors:
            sent = tensor.detach().contiguous()
            with _reaching_the_others():
                distributed.broadcast(sent, src=0)
            with torch.no_grad():
                tensor.copy_(sent)

    def agreed(self, value: Callable[[], Any]) -> Any:
        """What `value` returns in the main process, which alone calls it: anything that JSON can hold."""
        if self.size == 1:
            return value()
        import torch

        sent = torch.frombuffer(bytearray(json.dumps(value()).encode()), dtype=torch.uint8) if self.is_main else None
        length = torch.tensor([0 if sent is None else len(sent)])
        self.take_from_main([length])
        content = torch.empty(int(length), dtype=torch.uint8) if sent is None else sent
        self.take_from_main([content])
        return json.loads(content.numpy().tobytes())

    def wait(self) -> None:
        """Until all processes have come here."""
        self.agreed(lambda: None)


ALONE = Team()


def team() -> Team:
    """The processes of this launch; joins them when it is first asked for.

    Raises EdgeLatheError when they cannot be reached.
    """
    if launched() == 1:
        return ALONE
    # Its default arguments are the group there is when it is imported: afterwards they would keep the group, and gloo's
    # threads, beyond _leave(), and a thread that lets go of a tensor while Python ends aborts the process.
    import torch.distributed.nn  # noqa: F401

    with _reaching_the_others():
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=_PATIENCE)
    atexit.register(_leave)
    return Team(state.process_index, state.num_processes)


def launched() -> int:
    """How many processes the launcher says there are; 1 without one."""
    return _number(_SIZE, 1)


def launched_as() -> int:
    """Which of these processes this is, from 0; known before the others are reached."""
    return _number(_RANK, 0) if launched() > 1 else 0


def speaks() -> bool:
    """Whether this process is the one that tells people what happens; known before the others are reached."""
    return launched_as() == 0


def launched_alone() -> bool:
    """Whether `accelerate launch` was asked for several processes and started one, as it does with --cpu."""
    several = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    return several and launched() == 1


def _number(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), default)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def _reaching_the_others() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as reason:  # gloo's: connection closed, timeouts; Accelerate's: no address
        raise errors.training.processes_apart(launched()) from reason
