from __future__ import annotations

import itertools

from edgelathe.compress.quantize.search.knapsack import STEPS, Choice, Option, choose, frontier
from hypothesis import given, settings
from hypothesis import strategies as st

OPTION = st.builds(Option, st.integers(0, 12), st.integers(0, 50).map(float))
ITEMS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=5)


def everything(items: list[list[Option]]) -> list[tuple[float, float]]:
    """Cost and loss of every possible choice."""
    return [
        (sum(option.cost for option in picked), sum(option.loss for option in picked))
        for picked in itertools.product(*items)
    ]


@settings(max_examples=150)
@given(ITEMS, st.integers(0, 60))
def test_the_choice_is_as_good_as_trying_everything(items: list[list[Option]], budget: int) -> None:
    losses = [loss for cost, loss in everything(items) if cost <= budget]
    chosen = choose(items, budget, unit=1.0)
    if not losses:
        assert chosen is None
        return
    assert chosen is not None
    picked = [options[number] for options, number in zip(items, chosen.picks, strict=True)]
    assert chosen.cost == sum(option.cost for option in picked) <= budget
    assert chosen.loss == sum(option.loss for option in picked) == min(losses)


@settings(max_examples=100)
@given(ITEMS)
def test_the_frontier_holds_what_nothing_beats(items: list[list[Option]]) -> None:
    choices = everything(items)
    expected, loss = [], float("inf")
    for cost in sorted({cost for cost, _ in choices}):
        least = min(of_loss for of_cost, of_loss in choices if of_cost == cost)
        if least < loss:
            loss = least
            expected.append((cost, loss))
    assert [(choice.cost, choice.loss) for choice in frontier(items, unit=1.0)] == expected


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.builds(Option, st.floats(0.01, 9.0), st.floats(0.0, 9.0)), min_size=2, max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.1, 1.0),
)
def test_a_grid_never_breaks_the_budget_and_loses_little(items: list[list[Option]], share: float) -> None:
    dearest = sum(max(option.cost for option in options) for options in items)
    budget = share * dearest
    chosen = choose(items, budget)
    rounding = len(items) * dearest / STEPS
    within = [loss for cost, loss in everything(items) if cost <= budget - rounding]
    assert chosen is not None or not within
    if chosen is not None:
        assert chosen.cost <= budget
        assert chosen.loss <= min(within, default=float("inf"))


def test_options_that_cost_the_same_leave_the_best_ones() -> None:
    assert frontier([[Option(2, 5.0), Option(2, 1.0)], [Option(0, 3.0)]]) == (Choice((1, 0), 2, 4.0),)
    assert choose([[Option(3, 1.0)]], 2.9) is None
