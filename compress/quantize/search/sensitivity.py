"""How much each operator's quantization disturbs the output: one operator at a time, everything else in float.

Two measures. The noise at the logits relative to their power is sensitive where no prediction changes yet; the share
of predictions that change is what accuracy is made of. Noise of single operators nearly adds up over operators, which
is what lets `knapsack` choose among sets of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from .... import errors
from ....models.onnx_graph import only_consumer
from ..apply import apply_plan
from ..calibration.imagechunks import Images, as_sliceable
from ..placing.placement import SAME_CODES, NodePlan
from ..plan import QuantPlan
from ..session import open_session

CHUNK = 16
"""Images per run where the model leaves the batch open."""


@dataclass(frozen=True)
class Sensitivity:
    name: str
    op: str
    noise: float
    """Power of the error at the logits as a share of the logits' own, with this operator alone in int8."""
    agreement: float
    """Share of the images that are classified as in float."""
    accuracy: float | None
    """Share of the images that are classified right; None without labels."""

    @property
    def decibels(self) -> float:
        """Signal to quantization noise."""
        return math.inf if self.noise <= 0 else -10 * math.log10(self.noise)


def rank_nodes(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Images,
    *,
    labels: np.ndarray | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Sensitivity, ...]:
    """Sensitivity of every int8 operator that rounds anything, most noise first.

    `plan` is for `prepared`; `images` are float32 [N, C, H, W] as for `calibrate`, a few dozen will do; `labels` int
    [N]. Raises EdgeLatheError when the number of labels differs from that of images.
    """
    if labels is not None and len(labels) != len(as_sliceable(images)):
        raise errors.data.unequal_lengths("labels", "images", len(labels), len(as_sliceable(images)))
    reference = logits(prepared, images)
    names = rounding_nodes(plan)
    found = []
    for number, name in enumerate(names, start=1):
        found.append(sensitivity_of(prepared, plan, name, images, reference, labels))
        if on_progress:
            on_progress(number, len(names))
    return ordered(found)


def ordered(sensitivities: Sequence[Sensitivity]) -> tuple[Sensitivity, ...]:
    """Most noise first; where it is equal, the fewer agreements first."""
    return tuple(sorted(sensitivities, key=lambda found: (-found.noise, found.agreement, found.name)))


def rounding_nodes(plan: QuantPlan) -> tuple[str, ...]:
    """The int8 operators that round: all but those that only move codes."""
    return tuple(node.name for node in plan.nodes if node.kind == "int8" and node.op not in SAME_CODES)


def sensitivity_of(
    prepared: ir.Model,
    plan: QuantPlan,
    name: str,
    images: Images,
    reference: np.ndarray,
    labels: np.ndarray | None = None,
) -> Sensitivity:
    """Sensitivity of one operator; `reference` is the float32 [N, classes] output of `prepared` for `images`."""
    found = logits(apply_plan(prepared, alone(prepared, plan, name)), images)
    (op,) = (node.op for node in plan.nodes if node.name == name)
    predictions = found.argmax(axis=1)
    return Sensitivity(
        name=name,
        op=op,
        noise=noise_share(reference, found),
        agreement=float(np.mean(predictions == reference.argmax(axis=1))),
        accuracy=None if labels is None else float(np.mean(predictions == labels)),
    )


def alone(prepared: ir.Model, plan: QuantPlan, name: str) -> QuantPlan:
    """The plan in which only the operator `name` is int8, with what is absorbed into it."""
    (node,) = (node for node in prepared.graph if node.name == name)
    kinds = {planned.name: planned.kind for planned in plan.nodes}
    reader = only_consumer(node.outputs[0])
    absorbed = reader if reader is not None and kinds[str(reader.name)] == "absorbed" else None
    output = (absorbed or node).outputs[0]
    touched = {str(value.name) for value in (*node.inputs, output) if value is not None}
    kept = {name} | ({str(absorbed.name)} if absorbed is not None else set())

    def decided(planned: NodePlan) -> NodePlan:
        return planned if planned.name in kept else replace(planned, kind="float", reason="left out")

    return replace(
        plan,
        nodes=tuple(decided(planned) for planned in plan.nodes),
        codes={value: codes for value, codes in plan.codes.items() if value in touched},
        weights={of: codes for of, codes in plan.weights.items() if of == name},
    )


def noise_share(reference: np.ndarray, other: np.ndarray) -> float:
    """Power of the difference as a share of the power of `reference`."""
    power = float(np.sum(reference.astype(np.float64) ** 2))
    error = float(np.sum((reference.astype(np.float64) - other.astype(np.float64)) ** 2))
    return error / power if power else error


def logits(model: ir.Model, images: Images) -> np.ndarray:
    """First output of the model for all images, float32 [N, classes]."""
    return run_all(open_session(model), images, {})


def run_all(session: onnxruntime.InferenceSession, images: Images, others: Mapping[str, np.ndarray]) -> np.ndarray:
    """First output for all images, float32 [N, classes]; `others` are further inputs of every run."""
    image = session.get_inputs()[0]
    source, fixed = as_sliceable(images), image.shape[0]
    size = fixed if isinstance(fixed, int) else CHUNK
    parts = []
    for start in range(0, len(source), size):
        inputs = np.ascontiguousarray(source[start : start + size], np.float32)
        count = len(inputs)
        if isinstance(fixed, int):  # a model of a fixed batch takes no fewer
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        parts.append(session.run(None, {image.name: inputs, **others})[0][:count])
    return np.concatenate(parts).reshape(len(source), -1)


# --- the list as a file that can be edited -------------------------------------------------------------------


def to_json(sensitivities: Sequence[Sensitivity], *, keep_float: Sequence[str] = ()) -> str:
    """The ranking, and the names that `quantize` is to keep in float when it is given this file as keep_float."""
    nodes = [
        asdict(found) | {"decibels": found.decibels if math.isfinite(found.decibels) else None}
        for found in sensitivities
    ]
    return json.dumps({"keep_float": list(keep_float), "nodes": nodes}, indent=1) + "\n"


def read_keep_float(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that end in .json replaced by the "keep_float" list of that file.

    Raises EdgeLatheError for files that cannot be read or hold no such list.
    """
    found: list[str] = []
    for name in names:
        found += _listed(Path(name)) if name.endswith(".json") else [name]
    return tuple(dict.fromkeys(found))


def _listed(path: Path) -> list[str]:
    do = 'write {"keep_float": ["name of a node", ...]}'
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.inputs.missing_file("the list of nodes", path) from None
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise errors.inputs.unreadable_file("the list of nodes", path, why, "check the path") from reason
    except (ValueError, RecursionError) as reason:
        raise errors.inputs.unreadable_file("the list of nodes", path, "it is not valid JSON", do) from reason
    listed = document.get("keep_float") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise errors.inputs.unreadable_file(
            "the list of nodes", path, "it holds no list of names called keep_float", do
        )
    return listed
