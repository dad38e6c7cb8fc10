from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.builder import Builder, Scheme
from edgelathe.compress.quantize.search.sensitivity import (
    Sensitivity,
    alone,
    logits,
    noise_share,
    rank_nodes,
    read_keep_float,
    rounding_nodes,
    to_json,
)
from edgelathe.errors import EdgeLatheError

from ..conftest import images, run

SCHEME = Scheme("minmax", per_channel=True)
PICTURES = (3, 8, 8)


@pytest.fixture
def builder(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> Builder:
    return Builder(save(residual), images(32, PICTURES, seed=1), target="x86-vnni")


def test_every_operator_that_rounds_is_ranked(builder: Builder) -> None:
    plan = builder.float_graph_plan(SCHEME)
    few = images(12, PICTURES, seed=2)
    seen: list[tuple[int, int]] = []
    ranking = rank_nodes(builder.plain, plan, few, on_progress=lambda *now: seen.append(now))
    assert {found.name for found in ranking} == set(rounding_nodes(plan))
    assert {"MaxPool", "Flatten"}.isdisjoint(found.op for found in ranking)
    assert [found.noise for found in ranking] == sorted((found.noise for found in ranking), reverse=True)
    assert all(0 < found.noise < 0.1 and found.accuracy is None for found in ranking)
    assert seen[-1] == (len(ranking), len(ranking))


def test_noise_of_single_operators_nearly_adds_up(builder: Builder) -> None:
    plan = builder.float_graph_plan(SCHEME)
    few = images(32, PICTURES, seed=2)
    total = sum(found.noise for found in rank_nodes(builder.plain, plan, few))
    whole = noise_share(logits(builder.plain, few), logits(apply_plan(builder.plain, plan), few))
    assert 0.2 < whole / total < 5


def test_alone_leaves_everything_else_in_float(builder: Builder) -> None:
    plan = builder.float_graph_plan(SCHEME)
    name = next(node.name for node in plan.nodes if node.op == "Conv")
    single = alone(builder.plain, plan, name)
    assert [node.name for node in single.nodes if node.kind == "int8"] == [name]
    assert [node.op for node in single.nodes if node.kind == "absorbed"] == ["Relu"]
    assert list(single.weights) == [name]
    assert len(single.codes) == 2
    assert plan.weights != single.weights, "the plan itself is as it was"


def test_labels_count_what_is_right(builder: Builder) -> None:
    plan = builder.float_graph_plan(SCHEME)
    few = images(10, PICTURES, seed=2)
    right = logits(builder.plain, few).argmax(1)
    labels = np.where(np.arange(10) < 5, right, (right + 1) % 10)
    for found in rank_nodes(builder.plain, plan, few, labels=labels):
        if found.agreement == 1.0:
            assert found.accuracy == 0.5
    with pytest.raises(EdgeLatheError, match="labels"):
        rank_nodes(builder.plain, plan, few, labels=labels[:3])


def test_a_model_of_a_fixed_batch_is_fed_whole_batches(
    residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]
) -> None:
    pictures = images(6, PICTURES, seed=2)
    expected = run(residual, pictures)
    residual.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    residual.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    builder = Builder(save(residual), images(8, PICTURES, seed=1), target="x86-vnni")
    assert np.allclose(logits(builder.plain, pictures), expected, rtol=1e-4, atol=1e-5)


def test_the_ranking_is_a_file_that_keep_float_takes(tmp_path: Path) -> None:
    ranking = (Sensitivity("a", "Conv", 0.5, 0.9, None), Sensitivity("b", "Conv", 0.0, 1.0, 0.8))
    path = tmp_path / "sensitivity.json"
    path.write_text(to_json(ranking, keep_float=["a"]))
    assert read_keep_float(["c", str(path), "a"]) == ("c", "a")
    nodes = json.loads(path.read_text())["nodes"]
    assert [node["decibels"] for node in nodes] == [pytest.approx(3.0103, abs=1e-4), None]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not valid JSON"),
        ("[1]", "it holds no list of names called keep_float"),
        ('{"keep_float": "a"}', "it holds no list of names called keep_float"),
        ('{"keep_float": [1]}', "it holds no list of names called keep_float"),
    ],
)
def test_a_list_that_is_none_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(EdgeLatheError) as caught:
        read_keep_float([str(path)])
    assert str(caught.value) == (
        f'Cannot read the list of nodes {path}: {why}; write {{"keep_float": ["name of a node", ...]}}.'
    )
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        read_keep_float([str(tmp_path / "none.json")])
