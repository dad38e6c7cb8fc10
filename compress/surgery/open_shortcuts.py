"""Option A shortcuts as frozen 1 x 1 convolutions, so that the channels on either side of them can be pruned.

He et al. 2016 join stages of different width without parameters: the narrow stage's channels go to fixed places among
the wide one's. Such a join ties channels by position, and pruning has to leave both streams whole; written as a
convolution of zeros and ones it computes the same, and each side can lose channels of its own.
"""

from __future__ import annotations

from torch import nn

from ... import errors
from ...models.edits import Edit
from ...models.resnet import OptionAShortcut
from .plan import SurgeryPlan, apply_plan


def open_shortcuts(model: nn.Module) -> tuple[nn.Module, SurgeryPlan]:
    """A copy of `model` whose option A shortcuts are `ChannelSelection`, and the plan of it. `model` is left as it was.

    Raises EdgeLatheError for a network without such a shortcut.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, OptionAShortcut)]
    if not names:
        raise errors.surgery.nothing_to_open()
    plan = SurgeryPlan(tuple(Edit(name, "selection") for name in names), ())
    return apply_plan(model, plan), plan
