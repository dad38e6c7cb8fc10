from __future__ import annotations

import torch
from edgelathe.compress.sparsify.ranking import keep_largest
from hypothesis import given
from hypothesis import strategies as st

Scores = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(st.lists(Scores, min_size=1, max_size=4), st.floats(0.01, 0.99))
def test_single_weights_of_all_tensors_share_one_budget(rows: list[list[int]], keep: float) -> None:
    scores = [torch.tensor(row, dtype=torch.float32) for row in rows]
    masks = keep_largest(scores, [1] * len(rows), keep)
    kept = torch.cat([score[mask] for score, mask in zip(scores, masks, strict=True)])
    gone = torch.cat([score[~mask] for score, mask in zip(scores, masks, strict=True)])
    assert len(kept) == round(keep * (len(kept) + len(gone)))
    assert not len(kept) or not len(gone) or kept.min() >= gone.max()


def test_a_unit_that_would_exceed_the_budget_ends_the_row() -> None:
    # 4 + 2 of 4 + 2 + 9 weights fit into two thirds of fifteen; the unit of nine does not.
    scores = [torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor([1.0])]
    assert [mask.tolist() for mask in keep_largest(scores, [4, 2, 9], 2 / 3)] == [[True], [True], [False]]


def test_of_equals_the_first_stay() -> None:
    (mask,) = keep_largest([torch.ones(5)], [1], 0.4)
    assert mask.tolist() == [True, True, False, False, False]
