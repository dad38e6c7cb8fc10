from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.profile import NodeTime, Profile, name_in_file, profile
from edgelathe.errors import EdgeLatheError


def test_every_operator_of_the_runtimes_graph_is_timed(resnet_file: Callable[..., Path], tmp_path: Path) -> None:
    found = profile({"small": resnet_file(8), "wide": resnet_file(8, 32)}, runs=6, seed=3)
    small, wide = found["small"], found["wide"]
    assert small.runs == 6
    assert sum(node.kind == "convolution" for node in small.nodes) == 7
    assert all(node.microseconds >= 0 for node in small.nodes)
    assert (
        small.microseconds == pytest.approx(sum(small.by_kind().values())) == pytest.approx(sum(small.by_op().values()))
    )
    assert wide.by_kind()["convolution"] > 1.5 * small.by_kind()["convolution"]
    assert next(iter(small.by_kind())) == "convolution"
    assert {"fc"} <= {node.name for node in small.nodes}
    assert not list(Path().glob("*_0*.json")), "the profiler's files are gone"


def test_the_slowest_come_first() -> None:
    nodes = tuple(NodeTime(name=f"n{time}", op="Conv", kind="convolution", microseconds=time) for time in (2, 9, 5))
    assert [node.name for node in Profile(nodes=nodes, runs=1).slowest(2)] == ["n9", "n5"]


@pytest.mark.parametrize(
    ("runtime", "file"),
    [
        ("getitem_6_nchwc", "getitem_6"),
        ("node_Conv_374_token_12", "node_Conv_374"),
        ("node_silu/QuickGeluFusion/", "node_silu"),
        ("fused c0", "c0"),
        ("conv_quant", "conv"),
        ("nchwc_head", "nchwc_head"),
    ],
)
def test_names_lose_what_the_optimiser_added(runtime: str, file: str) -> None:
    assert name_in_file(runtime) == file


def test_bad_settings_and_files_are_refused(tmp_path: Path, resnet_file: Callable[..., Path]) -> None:
    with pytest.raises(EdgeLatheError, match="runs = 0"):
        profile({"a": resnet_file(8)}, runs=0)
    with pytest.raises(EdgeLatheError, match=r"Cannot read the model .*none\.onnx"):
        profile({"a": tmp_path / "none.onnx"})
