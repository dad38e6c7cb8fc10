from __future__ import annotations

import sys
from pathlib import Path

import pytest
from edgelathe.data import Preprocess
from edgelathe.errors import EdgeLatheError

from . import run_peer
from .command import portable_command
from .networks import NETWORKS
from .peers import BAR, OURS, PEERS, Job, find_peers, our_tools

JOB = Job(Path("a.onnx"), Path("b.onnx"), Path("images"), 7, Preprocess((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), 3)


def test_every_peer_can_be_run() -> None:
    assert list(PEERS) == list(run_peer.PEERS)


def test_the_bar_is_installed_here_and_runs_as_a_command_of_its_own() -> None:
    (bar,), missing = find_peers([BAR], [sys.executable])
    assert missing == []
    assert bar.versions.keys() >= {"onnxruntime", "onnx", "numpy"}
    command = bar.command(JOB)
    assert command[:2] == [sys.executable, "-P"]
    assert command[3:7] == [BAR, "a.onnx", "b.onnx", "images/train/all"]


def test_a_peer_of_no_environment_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "nowhere", PEERS[BAR].__class__("no-such-package-at-all", (), ""))
    assert find_peers(["nowhere"], [sys.executable]) == ([], ["nowhere"])


def test_a_python_that_does_not_start_is_refused() -> None:
    with pytest.raises(EdgeLatheError, match="--peer-python"):
        find_peers([BAR], ["/no/python"])


def test_variants_add_their_arguments_to_ours() -> None:
    plain, variant = our_tools(["minmax=--method minmax --keep-float 'a b'"])
    assert (plain.name, variant.name) == (OURS, "edgelathe minmax")
    assert variant.command(JOB) == [*plain.command(JOB), "--method", "minmax", "--keep-float", "a b"]
    assert plain.command(JOB)[-1] == "--quiet"


@pytest.mark.parametrize("variant", ["--method minmax", "=--method minmax", "nncf=--method minmax"])
def test_variants_of_another_form_are_refused(variant: str) -> None:
    with pytest.raises(EdgeLatheError, match="--variant"):
        our_tools([variant])


def test_commands_in_records_name_no_folder_of_the_machine() -> None:
    given = ["--peer-python", "/home/me/nncf/bin/python", "--out", "results/a.json"]
    assert portable_command("a.b", given) == "python -m a.b --peer-python python --out results/a.json"


def test_only_networks_with_weights_are_judged_by_accuracy() -> None:
    untrained = {name for name, network in NETWORKS.items() if not network.trained}
    assert untrained == {"mobilenet_v2", "efficientnet_b0", "resnet50", "densenet121"}
    assert {network.side for network in NETWORKS.values() if network.images == "cifar10"} == {32}
