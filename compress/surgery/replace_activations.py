"""SiLU, hard-swish, GELU and Mish out, something that int8 kernels swallow in: Howard et al. 2019 the other way round.

A rectifier after a convolution costs nothing in int8: it is the end of the convolution's output range. SiLU is a
sigmoid, a product and three more roundings. The network has to be trained again afterwards, best by distillation.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ... import errors
from ...models.activations import activation_of
from ...models.edits import REPLACED_BY, Activation, Edit, make_edit
from .function_calls import WRITTEN_OUT, function_calls
from .plan import LeftAlone, SurgeryPlan, apply_plan, check_names, holds


def replace_activations(
    model: nn.Module,
    example: Tensor,
    *,
    to: Activation = "relu6",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> tuple[nn.Module, SurgeryPlan]:
    """A copy of `model` with its smooth activations replaced, and the plan of it. `model` is left as it was."""
    plan = plan_replacement(model, example, to=to, only=only, ignore=ignore)
    return apply_plan(model, plan), plan


def plan_replacement(
    model: nn.Module,
    example: Tensor,
    *,
    to: Activation = "relu6",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> SurgeryPlan:
    """Which activations `to` takes the place of.

    example -- float32 [N,C,H,W]; one image is run to find activations that are no modules and so must stay.
    to      -- "relu6", "relu" or "hardswish" for SiLU, hard-swish, GELU and Mish; "hardsigmoid" for sigmoid.
    only, ignore -- names of activations or of modules that hold them; default: all of the network, and none.

    Raises EdgeLatheError for unknown names, names that change nothing, and networks with nothing to replace.
    """
    if to not in REPLACED_BY:
        raise errors.inputs.unknown_choice("activation", to, REPLACED_BY)
    found = dict(_activations(model))
    replaceable = {name: what for name, what in found.items() if what in REPLACED_BY[to]}
    for key, names in (("only", only), ("ignore", ignore)):
        check_names(key, names, model, replaceable, f"activation that {to} stands in for")
    left: list[LeftAlone] = []
    edits: list[Edit] = []
    for name, what in replaceable.items():
        if any(holds(ignored, name) for ignored in ignore):
            left.append(LeftAlone(name, what, "it is named in ignore"))
        elif only and not any(holds(chosen, name) for chosen in only):
            left.append(LeftAlone(name, what, "it is not named in only"))
        else:
            edits.append(Edit(name, to))
    edited = copy.deepcopy(model).eval()
    for edit in edits:
        make_edit(edited, edit)
    calls = function_calls(edited, example)
    wanted = (*REPLACED_BY[to], *(() if to == "hardsigmoid" else (WRITTEN_OUT,)))
    do = "change only or ignore" if left else "leave this stage out"
    for call in dict.fromkeys(calls):
        if call.what in wanted and not any(holds(name, call.module) for name in found):
            owner = type(edited.get_submodule(call.module)).__name__
            left.append(LeftAlone(call.module, call.what, f"it is a function that the forward of {owner} calls"))
            do = "make modules of functions that stand in a forward"
    if not edits:
        counts = Counter(call.what for call in calls)
        raise errors.surgery.nothing_to_replace(to, REPLACED_BY[to], counts, [str(item) for item in left], do)
    return SurgeryPlan(tuple(edits), tuple(left))


def _activations(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Modules that are activations, under every name they have, but not what lies in them."""
    for name, module in model._modules.items():
        if module is None:
            continue
        path = f"{prefix}{name}"
        if (what := activation_of(module)) is not None:
            yield path, what
        else:
            yield from _activations(module, f"{path}.")
