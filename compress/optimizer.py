"""The optimizer of the training loop."""

from __future__ import annotations

import torch
from torch import nn

from .. import errors


def sgd(
    model: nn.Module, trained: nn.Module | None, *, lr: float, momentum: float, weight_decay: float, decay_norms: bool
) -> torch.optim.Optimizer:
    """SGD over the parameters of `model`, and of what is learned beside it, that are not frozen.

    Raises EdgeLatheError for a model without any.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise errors.training.nothing_to_train()
    if trained is not None:
        parameters += [parameter for parameter in trained.parameters() if parameter.requires_grad]
    spared = [] if decay_norms else [parameter for parameter in parameters if parameter.ndim <= 1]
    decayed = parameters if decay_norms else [parameter for parameter in parameters if parameter.ndim > 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=lr, momentum=momentum, fused=True)
