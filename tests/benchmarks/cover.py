"""One network through the whole road: prune to half the MACs, rebuild, export, compare, quantize.

    python -m tests.benchmarks.cover torchvision:resnet18 record.json --keep 0.5 --seed 0

Each step that fails leaves its reason in the record and ends the road; what was found before stays.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from edgelathe.bench.records import Record
from edgelathe.errors import EdgeLatheError
from edgelathe.files import write_atomic
from pydantic import Field

from .command import end_well

if TYPE_CHECKING:
    import torch
    from edgelathe.compress.prune.plan import PruningPlan
    from torch import nn

SIDES = (32, 48, 63, 64, 75, 96, 128, 224)
"""Image sizes, of which the first that a network accepts is taken; below 32 the last maps are single pixels."""
CLASSES = 10
CALIBRATION, JUDGED = 16, 8
BATCHES = (1, 3)
TOLERANCE = 1e-4
POINTS = 0.05
"""How far from the target the MACs may end."""


class Covered(Record):
    """What became of one network; a field is None where the road ended before it."""

    network: str
    side: int | None = None
    parameters: int | None = None
    macs: int | None = None
    kept_macs: float | None = None
    scope: str | None = None
    groups: int | None = None
    left: dict[str, str] = Field(default_factory=dict)
    """Groups of channels that could not be cut, by their layer, and why."""
    difference: float | None = None
    """Largest difference between the outputs of the pruned network and of the whole one in which nothing reads the
    removed channels, as a share of the outputs' spread."""
    rebuilt: bool | None = None
    """Whether the network that was saved and rebuilt gives the same outputs, bit for bit."""
    parity: float | None = None
    """Largest difference between PyTorch's and ONNX Runtime's outputs, as a share of the outputs' spread."""
    convolutions: int | None = None
    int8_convolutions: int | None = None
    int8_macs: float | None = None
    snr_db: float | None = None
    failed: str = ""
    """The step at which the road ended, and why; empty where it did not."""
    seconds: float | None = None
    peak_bytes: int | None = None

    @property
    def passed(self) -> bool:
        return not self.failed and self.rebuilt is True


class StepError(Exception):
    """A step of the road that failed; the sentence says which and why."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.cover", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("network")
    parser.add_argument("record", type=Path)
    parser.add_argument("--keep", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args(arguments)
    write_atomic(asked.record, cover(asked.network, asked.keep, asked.seed).model_dump_json(), "the record")
    return 0


def cover(source: str, keep: float, seed: int) -> Covered:
    """The whole road of the zoo's network `source` with random weights; nothing that fails is raised."""
    found: dict[str, object] = {"network": source}
    try:
        with tempfile.TemporaryDirectory() as folder:
            _walk(source, keep, seed, Path(folder), found)
    except StepError as reason:
        found["failed"] = str(reason)
    return Covered.model_validate(found)


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except StepError:
        raise
    except EdgeLatheError as reason:
        raise StepError(f"{name}: {reason}") from reason
    except Exception as reason:  # of any kind: that is what this script is there to find
        first = next(iter(str(reason).splitlines()), "")
        raise StepError(f"{name}: {type(reason).__name__}: {first[:200]}") from reason


def _walk(source: str, keep: float, seed: int, folder: Path, found: dict[str, object]) -> None:
    import torch
    from edgelathe.compress.prune.apply import silence
    from edgelathe.models.structure import NetworkSpec, load_network, save_network
    from edgelathe.models.zoo import build

    from .lively import enliven, images

    spec = NetworkSpec(source, {"num_classes": CLASSES, "in_channels": 3})
    with _step("build"):
        torch.manual_seed(seed)
        model = build(source, **spec.arguments)
        side = found["side"] = smallest_side(model)
        x = images(CALIBRATION + JUDGED, side, seed)
        enliven(model, x[:JUDGED], seed)
    with _step("prune"):
        pruned, plan = _prune(model, x[:1], keep, seed)
        found |= {
            "parameters": plan.parameters_before,
            "macs": plan.macs_before,
            "kept_macs": plan.macs_after / plan.macs_before,
            "scope": plan.scope,
            "groups": len(plan.groups),
            "left": {group.layer: group.reason for group in plan.groups if group.reason},
        }
        judged = x[CALIBRATION:]
        wanted = _run(silence(model, plan.groups), judged)
        del model
        outputs = _run(pruned, judged)
        spread = float(wanted.max() - wanted.min())
        difference = found["difference"] = float((outputs - wanted).abs().max()) / spread
        if difference > TOLERANCE:
            raise StepError("prune: the channels that are left do not compute what they did")
        if abs(plan.macs_after / plan.macs_before - keep) > POINTS:
            raise StepError(f"prune: {plan.macs_after / plan.macs_before:.1%} of the MACs is as near as it came")
    with _step("rebuild"):
        save_network(pruned, spec, folder / "network")
        found["rebuilt"] = torch.equal(_run(load_network(folder / "network"), judged), outputs)
        if not found["rebuilt"]:
            raise StepError("rebuild: the rebuilt network gives other outputs")
    _deploy(pruned, x.numpy(), folder, found)


def smallest_side(model: nn.Module) -> int:
    """The first of SIDES at which `model` runs, found out without computing anything."""
    import torch
    from torch import nn

    shapes: dict[int, object] = {id(tensor): nn.Parameter(tensor.to("meta")) for tensor in model.parameters()}
    shapes |= {id(tensor): tensor.to("meta") for tensor in model.buffers()}
    shadow = copy.deepcopy(model, shapes).eval()
    failure = ""
    for side in SIDES:
        try:
            with torch.no_grad():
                shadow(torch.empty(1, 3, side, side, device="meta"))
        except Exception as reason:  # whatever a network raises for images that are too small
            failure = str(reason)
        else:
            return side
    raise StepError(f"build: it accepts no images of {', '.join(map(str, SIDES))} pixels ({failure})")


def _prune(model: nn.Module, example: torch.Tensor, keep: float, seed: int) -> tuple[nn.Module, PruningPlan]:
    """Every group by the same share; channels of all groups together where that misses the target by too much."""
    from edgelathe.compress.prune.channels import prune_channels

    pruned, plan = prune_channels(model, example, criterion="l1", keep_macs=keep, seed=seed)
    if plan.macs_after / plan.macs_before < keep - POINTS:
        del pruned
        pruned, plan = prune_channels(model, example, criterion="l1", keep_macs=keep, scope="global", seed=seed)
    return pruned, plan


def _run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        return torch.cat([model.eval()(one) for one in x.split(1)])


def _deploy(pruned: nn.Module, x: np.ndarray, folder: Path, found: dict[str, object]) -> None:
    import torch
    from edgelathe.bench.graph import inspect_graph
    from edgelathe.compress.quantize.quantize import quantize
    from edgelathe.export.parity import check_parity, onnx_runner, torch_reference
    from edgelathe.export.to_onnx import export_onnx

    judged = x[CALIBRATION:]
    float_file, int8_file = folder / "float.onnx", folder / "int8.onnx"
    with _step("export"):
        export_onnx(pruned, torch.from_numpy(x[:1]), float_file)
    with _step("parity"):
        parity = check_parity(torch_reference(pruned), float_file, judged, batches=BATCHES, tolerance=TOLERANCE)
        if parity.reason:
            raise StepError(f"parity: {parity.reason}")
        found["parity"] = parity.relative
    del pruned
    with _step("int8"):
        quantized = quantize(float_file, int8_file, x[:CALIBRATION])
        convolutions = [node.kind for node in quantized.audit.nodes if node.op == "Conv"]
        facts = inspect_graph(int8_file)
        wanted, got = onnx_runner(float_file)(judged), onnx_runner(int8_file)(judged)
        if not np.isfinite(got).all():
            raise StepError("int8: the file gives NaN or infinite outputs")
        noise = float(np.square(wanted - got, dtype=np.float64).sum())
        found |= {
            "convolutions": len(convolutions),
            "int8_convolutions": convolutions.count("int8"),
            "int8_macs": facts.int8_macs / facts.macs,
            "snr_db": 10 * float(np.log10(np.square(wanted, dtype=np.float64).sum() / noise)),
        }


if __name__ == "__main__":
    sys.exit(end_well(lambda: main(sys.argv[1:])))
