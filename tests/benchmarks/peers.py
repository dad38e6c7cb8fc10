"""The tools that are compared: `edgelathe quantize` and its peers, each as a command that runs in its own process."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgelathe import __version__, errors
from edgelathe.data import Preprocess

RUN_PEER = Path(__file__).with_name("run_peer.py")
OURS = "edgelathe"
BAR = "onnxruntime-minmax"


@dataclass(frozen=True)
class Job:
    """One quantization, whoever does it."""

    model: Path
    output: Path
    images: Path
    """An image folder as `images.write_folder` makes it."""
    count: int
    preprocess: Preprocess
    seed: int


@dataclass(frozen=True)
class Tool:
    name: str
    settings: str
    versions: Mapping[str, str]
    command: Callable[[Job], list[str]]


@dataclass(frozen=True)
class Peer:
    package: str
    """Without it the peer is not there."""
    others: tuple[str, ...]
    """Packages whose versions matter too."""
    settings: str


_ORT = "quant_pre_process, quantize_static QDQ, uint8 activations, int8 weights per channel, {}, one image at a time"
_ORT_PACKAGES = ("onnx", "numpy", "torch")
"""Where torch is installed, quant_pre_process loads it for nothing, which costs seconds and 600 MB."""
_NNCF = "nncf.quantize on the ONNX model, preset {}, all images, else defaults"

PEERS: dict[str, Peer] = {
    BAR: Peer("onnxruntime", _ORT_PACKAGES, _ORT.format("MinMax")),
    f"{BAR}-lean": Peer("onnxruntime", ("onnx", "numpy"), f"{_ORT.format('MinMax')}, as if torch were not installed"),
    "onnxruntime-percentile": Peer("onnxruntime", _ORT_PACKAGES, _ORT.format("Percentile")),
    "nncf": Peer("nncf", ("onnx", "onnxruntime", "numpy"), _NNCF.format("performance (its default)")),
    "nncf-mixed": Peer("nncf", ("onnx", "onnxruntime", "numpy"), _NNCF.format("mixed (asymmetric activations)")),
}


def our_tools(variants: Sequence[str]) -> list[Tool]:
    """`edgelathe quantize` as it comes, and once more for each variant "name=further arguments".

    Raises EdgeLatheError for a variant of another form.
    """
    tools = [Tool(OURS, "edgelathe quantize, defaults", {"edgelathe": __version__}, partial(_our_command, ()))]
    for variant in variants:
        name, equals, arguments = variant.partition("=")
        if not equals or not name or name in (OURS, *PEERS):
            raise errors.inputs.impossible_setting(
                "--variant", variant, 'as in minmax="--method minmax", names used once'
            )
        settings = f"edgelathe quantize {arguments}".strip()
        command = partial(_our_command, tuple(shlex.split(arguments)))
        tools.append(Tool(f"{OURS} {name}", settings, {"edgelathe": __version__}, command))
    return tools


def find_peers(names: Sequence[str], pythons: Sequence[str]) -> tuple[list[Tool], list[str]]:
    """(peers that are installed, names of those that are not): each with the first of `pythons` that has it.

    Raises EdgeLatheError for unknown peers and for what is no Python.
    """
    found, missing = [], []
    for name in names:
        if name not in PEERS:
            raise errors.inputs.unknown_choice("peer", name, PEERS)
        peer = PEERS[name]
        for python in pythons:
            versions = _versions(python, (peer.package, *peer.others))
            if peer.package in versions:
                found.append(Tool(name, peer.settings, versions, partial(_peer_command, python, name)))
                break
        else:
            missing.append(name)
    return found, missing


def _our_command(further: Sequence[str], job: Job) -> list[str]:
    # -P: what lies in the current folder must not become a module of the tool.
    start = [sys.executable, "-P", "-c", "from edgelathe.cli import main; main()", "quantize", str(job.model)]
    data = ["--data", "folder", "--root", str(job.images), "--images", str(job.count), "--seed", str(job.seed)]
    normal = ["--mean", _joined(job.preprocess.mean), "--std", _joined(job.preprocess.std)]
    return [*start, *data, *normal, "--output", str(job.output), "--quiet", *further]


def _peer_command(python: str, name: str, job: Job) -> list[str]:
    files = [str(job.model), str(job.output), str(job.images / "train" / "all")]
    normal = ["--mean", *map(str, job.preprocess.mean), "--std", *map(str, job.preprocess.std)]
    return [python, "-P", str(RUN_PEER), name, *files, *normal]


def _joined(values: Sequence[float]) -> str:
    return ",".join(map(str, values))


def _versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    try:
        asked = [python, "-P", str(RUN_PEER), "--versions", *packages]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as reason:
        raise errors.inputs.impossible_setting(
            "--peer-python", python, "a Python 3.11 or later that starts"
        ) from reason
    return json.loads(answer.stdout)
