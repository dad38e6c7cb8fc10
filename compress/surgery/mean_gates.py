"""What a squeeze-and-excitation block does on average, as one factor per channel.

The factor g of a channel is the least-squares one over images and pixels: the block computes y from x, and
g = sum(x y) / sum(x x) makes sum((g x - y)^2) smallest. A convolution that reads y then reads x instead, with its
input weights multiplied by g, so a dropped block leaves the size of what follows as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ... import errors
from .plan import MeanGate

_BATCH = 32


def mean_gates(model: nn.Module, blocks: Sequence[str], images: Tensor) -> tuple[MeanGate, ...]:
    """One gate for every block of `blocks` whose reader is known, measured over `images`, float32 [N,C,H,W].

    The reader is known where the block stands in an nn.Sequential straight before a convolution or a sequence that
    begins with one, and neither is used twice. Raises EdgeLatheError when the network rejects the images.
    """
    readers = {block: reader for block in blocks if (reader := _reader(model, block))}
    network = copy.deepcopy(model).eval()
    sums = {block: _Sums() for block in readers}
    for block, collect in sums.items():
        network.get_submodule(block).register_forward_hook(collect)
    try:
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                network(images[start : start + _BATCH])
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(images.shape[1:], str(reason).splitlines()[0]) from reason
    return tuple(MeanGate(block, readers[block], collect.factors()) for block, collect in sums.items())


class _Sums:
    def __init__(self) -> None:
        self.xy = self.xx = torch.zeros(())

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = inputs[0].double(), output.double()
        self.xy = self.xy + (x * y).sum((0, 2, 3))
        self.xx = self.xx + (x * x).sum((0, 2, 3))

    def factors(self) -> tuple[float, ...]:
        """Channels that are always zero keep their weights."""
        return tuple(torch.where(self.xx > 0, self.xy / self.xx, 1.0).float().tolist())


def _reader(model: nn.Module, block: str) -> str:
    """Name of the convolution that alone reads the block's output; empty where that cannot be told."""
    owner, _, place = block.rpartition(".")
    siblings = model.get_submodule(owner)
    if not _is_sequence(siblings):
        return ""
    names = list(siblings._modules)
    if names.index(place) + 1 == len(names):
        return ""
    name = names[names.index(place) + 1]
    reader, path = siblings.get_submodule(name), f"{owner}.{name}" if owner else name
    while _is_sequence(reader) and len(reader._modules):
        name, first = next(iter(reader._modules.items()))
        assert first is not None
        reader, path = first, f"{path}.{name}"
    uses = [module for _, module in model.named_modules(remove_duplicate=False)]
    once = uses.count(reader) == 1 and uses.count(model.get_submodule(block)) == 1
    return path if isinstance(reader, nn.Conv2d) and reader.groups == 1 and once else ""


def _is_sequence(module: nn.Module) -> bool:
    """Whether its forward is that of nn.Sequential, in a subclass too."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
