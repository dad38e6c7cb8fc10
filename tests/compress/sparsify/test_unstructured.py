from __future__ import annotations

import torch
from edgelathe.compress.sparsify.names import read_pattern
from edgelathe.compress.sparsify.patterns import find_pattern, masks_from
from edgelathe.compress.sparsify.unstructured import pool, refusal, spread


def test_every_weight_is_judged_by_itself() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.4, 0.2]])
    assert torch.equal(spread(pool(scores) > 0.3, (2, 2)), scores > 0.3)
    masks = masks_from(find_pattern(read_pattern("unstructured")), {"w": scores}, 0.5, "layer")
    assert masks["w"].tolist() == [[False, True], [True, False]]
    assert refusal((1, 1)) == ""
