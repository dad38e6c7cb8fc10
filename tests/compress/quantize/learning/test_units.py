from __future__ import annotations

import itertools

import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.learning.units import result_of, units
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import place

WEIGHTED = ["c0", "c1", "c2", "logits"]


@pytest.fixture
def named(residual: onnx.ModelProto, tmp_path) -> tuple[ir.Model, set[str]]:
    for node in residual.graph.node:
        node.name = node.output[0]
    onnx.save(residual, tmp_path / "m.onnx")
    prepared = prepare(tmp_path / "m.onnx")
    return prepared, {node.name for node in place(prepared).nodes if node.kind == "absorbed"}


def test_a_residual_block_is_one_unit_and_ends_after_its_activation(named: tuple[ir.Model, set[str]]) -> None:
    model, absorbed = named
    assert absorbed == {"r0", "r1", "r2"}
    found = units(model, WEIGHTED, absorbed)
    assert [unit.nodes for unit in found] == [("c0",), ("c1", "c2"), ("logits",)]
    assert [(unit.start, unit.end) for unit in found] == [("input", "r0"), ("r0", "r2"), ("r2", "logits")]


def test_units_of_more_nodes_still_cover_the_graph(named: tuple[ir.Model, set[str]]) -> None:
    model, absorbed = named
    for least in (2, 3, 4, 9):
        found = units(model, WEIGHTED, absorbed, least=least)
        assert [name for unit in found for name in unit.nodes] == WEIGHTED
        assert all(one.end == other.start for one, other in itertools.pairwise(found))
        assert (found[0].start, found[-1].end) == ("input", "logits")
        assert all(len(unit.nodes) >= least for unit in found[:-1])


def test_a_layer_answers_after_the_activation_that_it_takes_in(named: tuple[ir.Model, set[str]]) -> None:
    model, absorbed = named
    assert [result_of(model, name, absorbed) for name in WEIGHTED] == ["r0", "r1", "c2", "logits"]
