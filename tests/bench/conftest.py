"""A made-up report with toy figures, for the tests of everything that reads, judges or draws reports."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.records import (
    Accuracy,
    Candidate,
    ClassAnswers,
    Environment,
    EpochPoint,
    GraphFacts,
    Latency,
    LayerWidth,
    Memory,
    NodeOutcome,
    Report,
    StageRecord,
)
from onnx import helper, numpy_helper

IMAGES = 360


def make_accuracy(correct: int, total: int = IMAGES) -> Accuracy:
    """Toy accuracy with its Wilson interval."""
    share, z = correct / total, 1.959963984540054
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    digest = hashlib.sha256(f"{correct} of {total}".encode()).hexdigest()
    return Accuracy(
        correct=correct,
        total=total,
        top1=share,
        low=max(0.0, centre - half),
        high=min(1.0, centre + half),
        predictions_sha256=digest,
    )


def make_facts(**changed: object) -> GraphFacts:
    """Toy facts of a small float network."""
    values: dict[str, object] = {
        "file_bytes": 318_000,
        "sha256": "0" * 64,
        "parameters": 78_000,
        "macs": 12_300_000,
        "bytes_by_type": {"float32": 312_000},
        "ops": {"Conv": 9, "Add": 4, "Relu": 9, "Gemm": 1},
        "activation_peak": 64_000,
        "int8_macs": 0,
        "opset": 20,
        "ir_version": 9,
        "inputs": {"input": ("batch", 1, 16, 16)},
        "outputs": {"logits": ("batch", 10)},
    }
    return GraphFacts.model_validate(values | changed)


def make_latency(median_ms: float, ratio: float, **changed: object) -> Latency:
    """Toy latency whose bursts wander a little, with an interval of 3 % either side."""
    noise = random.Random(f"{median_ms} {ratio}")
    bursts = [median_ms * (1 + 0.03 * math.sin(i / 9) + noise.gauss(0, 0.02)) for i in range(60)]
    bursts[17] *= 1.3
    values: dict[str, object] = {
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "median_ms": median_ms,
        "q1_ms": 0.97 * median_ms,
        "q3_ms": 1.04 * median_ms,
        "runs": 4200,
        "bursts_ms": tuple(bursts),
        "reference": "float-dense",
        "ratio": ratio,
        "ratio_low": ratio if ratio == 1 else 0.97 * ratio,
        "ratio_high": ratio if ratio == 1 else 1.03 * ratio,
        "load_ms": 9.1,
        "first_ms": 2.3 * median_ms,
    }
    return Latency.model_validate(values | changed)


def make_memory(peak: int) -> Memory:
    return Memory(
        runtime="onnxruntime",
        before_load=58_000_000,
        after_load=peak - 3_000_000,
        after_first=peak - 1_000_000,
        steady=peak - 1_000_000,
        peak=peak,
    )


def make_candidate(name: str, **changed: object) -> Candidate:
    values: dict[str, object] = {"name": name, "file": f"{name}.onnx", "facts": make_facts()}
    return Candidate.model_validate(values | changed)


def make_classes(
    wrong: dict[str, dict[str, int]], gained: dict[str, int] | None = None, lost: dict[str, int] | None = None
) -> tuple[ClassAnswers, ...]:
    """Ten digits of 36 images each, some taken for others; with gains and losses where either is given."""
    compared = gained is not None or lost is not None
    return tuple(
        ClassAnswers(
            name=digit,
            total=36,
            correct=36 - sum(wrong.get(digit, {}).values()),
            taken_for=wrong.get(digit, {}),
            gained=(gained or {}).get(digit, 0) if compared else None,
            lost=(lost or {}).get(digit, 0) if compared else None,
        )
        for digit in "0123456789"
    )


def make_environment(cpu: str = "Toy CPU 3000") -> Environment:
    return Environment(
        cpu=cpu,
        cores=2,
        memory_bytes=24_000_000_000,
        isa=("avx2", "avx512_vnni"),
        system="Linux 6.1",
        python="3.11.9",
        versions={"onnxruntime": "1.31.1", "numpy": "2.4.6"},
        fingerprint=hashlib.sha256(cpu.encode()).hexdigest()[:12],
    )


KEPT = "its output is added to a shortcut that pads by position, so its channels cannot move"
FLOAT_POOL = "its input and output share one scale already, an int8 kernel would only add conversions"
FLOAT_SLICE = "no int8 kernel reads this operator's output in this runtime"


def _widths() -> tuple[LayerWidth, ...]:
    layers = [LayerWidth(layer="conv1", before=16, after=16, reason=KEPT)]
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(5):
            name = f"layer{stage}.{block}"
            layers.append(LayerWidth(layer=f"{name}.conv1", before=width, after=width // 2 - 1, reason=""))
            layers.append(LayerWidth(layer=f"{name}.conv2", before=width, after=width, reason=KEPT))
    layers.append(LayerWidth(layer="linear", before=10, after=10, reason="its outputs are the classes"))
    return tuple(layers)


def _nodes() -> tuple[NodeOutcome, ...]:
    nodes = [NodeOutcome(name="conv1", op="Conv", outcome="int8", reason="")]
    for stage in range(1, 4):
        for block in range(5):
            name = f"layer{stage}.{block}"
            nodes.append(NodeOutcome(name=f"{name}.conv1", op="Conv", outcome="int8", reason=""))
            nodes.append(NodeOutcome(name=f"{name}.conv2", op="Conv", outcome="int8", reason=""))
            if block == 0 and stage > 1:
                for op in ("Slice", "Pad"):
                    node = NodeOutcome(name=f"{name}.{op}", op=op, outcome="float", reason=FLOAT_SLICE)
                    nodes.append(node)
            nodes.append(NodeOutcome(name=f"{name}.add", op="Add", outcome="int8", reason=""))
    nodes.append(NodeOutcome(name="pool", op="GlobalAveragePool", outcome="float", reason=FLOAT_POOL))
    nodes.append(NodeOutcome(name="linear", op="Gemm", outcome="int8", reason=""))
    return tuple(nodes)


def _logged(done: float) -> dict[str, float]:
    """Shares of a teacher that are trusted more and more, between the usual limits; both parts of the loss."""
    mean = 0.4 + 0.2 * done
    shares = {"share_mean": mean, "share_min": 0.1, "share_max": 0.9, "share_q1": mean - 0.12, "share_q3": mean + 0.09}
    return shares | {"teacher": 1.3 - done, "labels": 0.4 - 0.3 * done}


def _epochs(count: int, start: float, tested: float, taught: bool = False) -> tuple[EpochPoint, ...]:
    points = []
    for epoch in range(1, count + 1):
        done = 1 - math.exp(-4 * epoch / count)
        points.append(
            EpochPoint(
                epoch=epoch,
                loss=2.3 * (1 - 0.95 * done) * (1 - start) + 0.02,
                train_accuracy=start + (0.99 - start) * done,
                test_accuracy=tested if epoch == count else None,
                images_per_second=5200.0,
                lr=0.05 * (1 + math.cos(math.pi * (epoch - 0.5) / count)),
                logged=_logged(done) if taught else {},
            )
        )
    return tuple(points)


def _stages() -> tuple[StageRecord, ...]:
    def stage(number: int, do: str, summary: str, settings: dict[str, object], **more: object) -> StageRecord:
        values: dict[str, object] = {
            "do": do,
            "folder": f"stages/{number}-{do}",
            "key": hashlib.sha256(do.encode()).hexdigest(),
            "settings": settings,
            "summary": summary,
        }
        return StageRecord.model_validate(values | more)

    train = {"epochs": 12, "batch": 128, "lr": 0.1, "augment": "shift"}
    kd = {"loss": "kd", "weighting": "confidence", "epochs": 8, "alpha": 0.9, "temperature": 4.0}
    return (
        stage(1, "train", "Trained 12 epochs to 98.3 %.", train, epochs=_epochs(12, 0.1, 0.9833)),
        stage(
            2,
            "prune-channels",
            "Removed 51 % of the MACs from 15 of 32 layers by FPGM.",
            {"criterion": "fpgm", "keep_macs": 0.5},
            widths=_widths(),
        ),
        stage(3, "distill", "Recovered to 97.8 % in 8 epochs.", kd, epochs=_epochs(8, 0.62, 0.9778, True)),
        stage(4, "quantize", "48 of 53 operators in int8.", {"target": "x86-vnni", "method": "mse"}),
    )


@pytest.fixture(scope="session")
def report() -> Report:
    """Three candidates (float-dense, float-pruned, int8-pruned), everything measured, no gate verdict."""
    dense = make_candidate(
        "float-dense",
        file="export/float-dense.onnx",
        accuracy=make_accuracy(354),
        classes=make_classes({"1": {"8": 1}, "3": {"5": 1}, "8": {"1": 2, "3": 1}, "9": {"4": 1}}),
        latency=(make_latency(0.412, 1.0),),
        memory=(make_memory(91_000_000),),
    )
    pruned = make_candidate(
        "float-pruned",
        file="export/float-pruned.onnx",
        facts=make_facts(
            file_bytes=163_000,
            sha256="1" * 64,
            parameters=39_400,
            macs=6_010_000,
            bytes_by_type={"float32": 157_600},
            activation_peak=48_000,
        ),
        accuracy=make_accuracy(352),
        classes=make_classes(
            {"1": {"8": 1}, "3": {"5": 2}, "8": {"1": 3}, "9": {"4": 2}},
            gained={"8": 2},
            lost={"3": 1, "8": 2, "9": 1},
        ),
        latency=(make_latency(0.247, 0.6),),
        memory=(make_memory(90_400_000),),
        agreement=make_accuracy(355),
        disagreement_gained=2,
        disagreement_lost=4,
    )
    quantized = make_candidate(
        "int8-pruned",
        file="quantize/int8-pruned.onnx",
        facts=make_facts(
            file_bytes=61_200,
            sha256="2" * 64,
            parameters=39_400,
            macs=6_010_000,
            bytes_by_type={"int8": 38_900, "int32": 2_100, "float32": 1_800},
            activation_peak=12_000,
            int8_macs=6_003_000,
        ),
        accuracy=make_accuracy(352),
        classes=make_classes(
            {"1": {"8": 1}, "3": {"5": 1}, "8": {"1": 3, "3": 1}, "9": {"4": 2}},
            gained={"1": 1, "8": 2},
            lost={"1": 1, "8": 3, "9": 1},
        ),
        latency=(make_latency(0.156, 0.38),),
        memory=(make_memory(88_200_000),),
        agreement=make_accuracy(354),
        disagreement_gained=3,
        disagreement_lost=5,
        nodes=_nodes(),
    )
    return Report(
        name="digits-toy",
        created="2026-11-22T04:30:00Z",
        tool_version="0.1.0",
        data={"name": "digits", "train_images": 1437, "test_images": IMAGES, "fingerprint": "ab" * 32},
        environment=make_environment(),
        recipe={
            "name": "digits-toy",
            "seed": 0,
            "model": {"source": "cifar_resnet8"},
            "stages": [{"do": "train", "epochs": 12}, {"do": "prune-channels", "keep_macs": 0.5}],
            "gate": {"accuracy": ">= -1 pt", "size": "<= 0.3 x"},
        },
        stages=_stages(),
        candidates=(dense, pruned, quantized),
        reference="float-dense",
    )


@pytest.fixture(scope="session")
def bare_report() -> Report:
    """One file about which only its graph is known: no data, no stages, nothing measured."""
    return Report(
        name="one file",
        created="2026-11-22T04:30:00Z",
        tool_version="0.1.0",
        data={},
        environment=make_environment(),
        recipe={},
        stages=(),
        candidates=(make_candidate("float-dense"),),
        reference="float-dense",
    )


@pytest.fixture(scope="session")
def edited(report: Report) -> Callable[..., Report]:
    """edited(name, field=value, ...): the report with fields of one candidate changed; a candidate of another accuracy
    is not counted class by class."""

    def edit(name: str, **changed: object) -> Report:
        if changed.keys() & {"accuracy", "disagreement_gained", "disagreement_lost"}:
            changed = {"classes": (), **changed}
        candidates = tuple(
            Candidate.model_validate(entry.model_dump() | changed) if entry.name == name else entry
            for entry in report.candidates
        )
        return Report.model_validate(report.model_dump() | {"candidates": candidates})

    return edit


# --- toy ONNX models ----------------------------------------------------------------------------------------


@pytest.fixture
def save_text(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a model given as ONNX text and returns its path; weights declared without values become ones."""

    def save(text: str, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        model = onnx.parser.parse_model(text)
        stored = {tensor.name for tensor in model.graph.initializer}
        stored |= {output for node in model.graph.node for output in node.output}
        for value in [value for value in model.graph.value_info if value.name not in stored]:
            tensor = value.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            array = np.ones([dim.dim_value for dim in tensor.shape.dim], dtype)
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
            model.graph.value_info.remove(value)
        onnx.save_model(model, path)
        return path

    return save
