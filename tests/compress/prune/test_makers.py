from __future__ import annotations

import math
from collections.abc import Callable

import torch
from edgelathe.compress.prune.makers import makers, norm_scales, per_channel
from edgelathe.compress.prune.plan import Group, Member
from edgelathe.compress.prune.trace import trace_groups
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def test_values_come_to_the_channels_that_their_positions_belong_to() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    # Positions 0 and 1 are channel 2, 2 and 3 are channel 3; position 5 is channel 0; of channel 1 nothing is known.
    runs = [Member("a", "out", 2, 2, 0, 2), Member("a", "out", 0, 1, 5, 1)]
    found = per_channel(values, runs, 4).tolist()
    assert (found[0], found[2], found[3]) == (13.0, 1.5, 4.0)
    assert math.isnan(found[1])


def test_makers_are_filters_and_neither_readers_nor_norms(make: Make, example: Tensor) -> None:
    model = make("Inverted")
    layers = dict(model.named_modules())
    found = {group.layer: list(makers(group, layers)) for group in trace_groups(model, example, ()) if not group.reason}
    assert found == {"stem": ["stem", "project"], "expand": ["expand", "depthwise", "excite"], "squeeze": ["squeeze"]}


def test_scales_of_channels_that_lie_elsewhere_in_the_batch_norm() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(3))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 3.0, 4.0]))
    out = Member("0", "out", 0, 3, 0, 1)
    swapped = (Member("1", "channels", 0, 2, 2, 1), Member("1", "channels", 2, 1, 1, 1))
    group = Group("0", 3, (0, 1, 2), (out, *swapped, Member("2", "channels", 0, 3, 0, 1)), "")
    assert norm_scales(model, [group])["0"].tolist() == [3.0, 4.0, 2.0]
    halves = (Group("0", 2, (0, 1), (Member("0", "out", 0, 2, 0, 1), Member("1", "channels", 0, 2, 0, 1)), ""),)
    assert norm_scales(model, halves) == {}, "the third filter has no batch norm behind it"
