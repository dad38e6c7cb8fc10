from __future__ import annotations

import tomllib

import pytest
from edgelathe.bench.toml_text import to_toml
from hypothesis import given
from hypothesis import strategies as st

letters = st.characters(exclude_categories=("Cs",))
keys = st.text(letters, max_size=8)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(letters, max_size=12),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_reads_back_as_it_was(document: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(document)) == document


def test_looks_like_a_recipe() -> None:
    recipe = {
        "name": "x",
        "seed": 0,
        "stages": [{"do": "prune-channels", "keep_macs": 0.5}],
        "gate": {"size": "<= 1 kB"},
    }
    assert to_toml(recipe) == (
        'name = "x"\nseed = 0\n\n[[stages]]\ndo = "prune-channels"\nkeep_macs = 0.5\n\n[gate]\nsize = "<= 1 kB"\n'
    )


def test_nothing_is_left_out_but_none() -> None:
    assert to_toml({"a": None, "b": 1}) == "b = 1\n"
    with pytest.raises(ValueError, match="None has no TOML form"):
        to_toml({"a": [None]})
