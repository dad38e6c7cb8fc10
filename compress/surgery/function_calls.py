"""Which activations a network computes, and in which module's forward.

The network is run once and every operation is seen below PyTorch's functions, so that `functional.silu(x)`,
`x.sigmoid()` and `x * torch.sigmoid(x)` are noticed as well, where no module can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ... import errors

WRITTEN_OUT = "swish written out"
"""x * gate(x): SiLU where the gate is a sigmoid, hard-swish where it is clipped."""

_ACTIVATIONS = {
    **{name: name for name in ("silu", "hardswish", "gelu", "mish", "sigmoid", "hardsigmoid", "relu", "tanh")},
    **{name: name for name in ("elu", "celu", "leaky_relu", "prelu", "softplus")},
    "hardtanh": "relu6",
}
"""Names for users by those of PyTorch's operators."""

_GATES = ("sigmoid", "hardsigmoid", "hardtanh", "clamp")
_AFFINE = ("add", "sub", "mul", "div")


@dataclass(frozen=True)
class Call:
    module: str
    """In whose forward it stands; empty for the network's own."""
    what: str


def function_calls(model: nn.Module, example: Tensor) -> tuple[Call, ...]:
    """Every activation in the order of the forward pass; those of activation modules as well, under their names.

    example -- float32 [N,C,H,W]; only its first image is used. Raises EdgeLatheError when the network cannot run.
    """
    calls: list[Call] = []
    with torch.no_grad(), _inside(model) as place, _Seen(lambda what: calls.append(Call(place(), what))):
        try:
            model(example[:1])
        except (RuntimeError, ValueError, TypeError, IndexError) as reason:
            raise errors.training.network_rejects_images(example.shape[1:], str(reason).splitlines()[0]) from reason
    return tuple(calls)


@contextmanager
def _inside(model: nn.Module) -> Iterator[Callable[[], str]]:
    """Yields a function that tells which module's forward is running."""
    stack: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        yield lambda: stack[-1] if stack else ""
    finally:
        for hook in hooks:
            hook.remove()


class _Seen(TorchDispatchMode):
    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__()
        self.tell = tell
        self.gates: dict[int, tuple[Tensor, Tensor, bool]] = {}
        """By the id of a value: the value, kept alive, what it is a pointwise function of, and whether clipped."""

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        name = function.name().removeprefix("aten::").partition(".")[0].rstrip("_")
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if name in _ACTIVATIONS:
            self.tell(_ACTIVATIONS[name])
        if name == "mul" and len(tensors) == 2 and self._is_gated(*tensors):
            self.tell(WRITTEN_OUT)
        elif name in (*_GATES, *_AFFINE) and len(tensors) == 1 and isinstance(result, Tensor):
            _, source, clipped = self.gates.get(id(tensors[0]), (tensors[0], tensors[0], False))
            if result is not source:
                self.gates[id(result)] = (result, source, clipped or name in _GATES)
        return result

    def _is_gated(self, *factors: Tensor) -> bool:
        for value, gate in (factors, factors[::-1]):
            _, source, clipped = self.gates.get(id(gate), (gate, None, False))
            if clipped and source is value:
                return True
        return False
