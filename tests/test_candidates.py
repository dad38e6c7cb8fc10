from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.latency import Progress
from edgelathe.bench.records import ClassAnswers, NodeOutcome
from edgelathe.candidates import Deployable, check, measure
from edgelathe.data import Preprocess, Split
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe import BenchSection
from onnx import TensorProto, helper, numpy_helper

PREPROCESS = Preprocess((0.0,), (1.0,))
QUICK = BenchSection(seconds=0.05, memory=False)


def classifier(path: Path, weights: np.ndarray, channels: int = 1, side: int | str = 2) -> Path:
    """Logits are `weights` [classes, channels] times the mean of each channel."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w"], ["logits"], name="fc", transB=1),
    ]
    shapes = {"input": ["batch", channels, side, side], "logits": ["batch", len(weights)]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    stored = [numpy_helper.from_array(weights.astype(np.float32), "w")]
    graph = helper.make_graph(nodes, "toy", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Deployable]:
    """The first says class 1 to anything bright, the second says class 0 to everything."""
    right = classifier(tmp_path / "1-export" / "right.onnx", np.array([[0.0], [1.0]]))
    wrong = classifier(tmp_path / "2-quantize" / "wrong.onnx", np.array([[0.0], [-1.0]]))
    outcome = NodeOutcome(name="fc", op="Gemm", outcome="int8", reason="")
    return [Deployable("right", right, PREPROCESS), Deployable("wrong", wrong, PREPROCESS, (outcome,))]


@pytest.fixture
def images() -> Split:
    """Five bright images of class 1, and one of class 0 that the bright say is 1."""
    return Split(np.full((6, 2, 2, 1), 200, np.uint8), np.array([1, 1, 1, 1, 1, 0]))


def test_one_record_per_file_in_order(files: list[Deployable], images: Split, tmp_path: Path) -> None:
    said: list[str] = []
    rounds: list[Progress] = []
    right, wrong = measure(files, QUICK, images=images, root=tmp_path, seed=0, say=said.append, on_round=rounds.append)
    assert (right.name, right.file) == ("right", "1-export/right.onnx")
    assert (wrong.name, wrong.file) == ("wrong", "2-quantize/wrong.onnx")
    assert right.accuracy is not None
    assert wrong.accuracy is not None
    assert (right.accuracy.correct, wrong.accuracy.correct, right.accuracy.total) == (5, 1, 6)
    assert right.agreement is None
    assert wrong.agreement is not None
    assert (wrong.agreement.correct, wrong.disagreement_gained, wrong.disagreement_lost) == (0, 1, 5)
    assert [record.ratio for record in right.latency] == [1.0]
    assert wrong.latency[0].reference == "right"
    assert (right.memory, right.nodes, wrong.nodes) == ((), (), files[1].nodes)
    assert right.facts.file_bytes == files[0].path.stat().st_size
    assert said == ["Accuracy of right", "Accuracy of wrong", "Latency in onnxruntime, 1 thread, up to 0.05 s"]
    assert rounds


def test_answers_are_counted_class_by_class(files: list[Deployable], images: Split, tmp_path: Path) -> None:
    def judged(**classes: tuple[str, ...]) -> list[tuple[ClassAnswers, ...]]:
        found = measure(files, QUICK, images=images, **classes, root=tmp_path, seed=0, say=lambda _: None)
        return [candidate.classes for candidate in found]

    right, wrong = judged(classes=("dark", "bright"))
    assert right == (
        ClassAnswers(name="dark", total=1, correct=0, taken_for={"bright": 1}),
        ClassAnswers(name="bright", total=5, correct=5, taken_for={}),
    )
    assert wrong == (
        ClassAnswers(name="dark", total=1, correct=1, taken_for={}, gained=1, lost=0),
        ClassAnswers(name="bright", total=5, correct=0, taken_for={"dark": 5}, gained=0, lost=5),
    )
    assert judged() == [(), ()]


def test_without_images_there_is_no_accuracy_and_memory_is_measured_if_asked(
    files: list[Deployable], tmp_path: Path
) -> None:
    bench = BenchSection(seconds=0.05, batch=3)
    (record,) = measure(files[:1], bench, images=None, root=tmp_path / "elsewhere", seed=0, say=lambda _: None)
    assert (record.accuracy, record.agreement) == (None, None)
    assert record.file == "right.onnx", "a path outside of the root is not told"
    assert [(memory.threads, memory.batch) for memory in record.memory] == [(1, 3)]
    assert [latency.batch for latency in record.latency] == [3]


@pytest.mark.parametrize(("channels", "side", "declared"), [(3, 2, "batch, 3, 2, 2"), (1, 4, "batch, 1, 4, 4")])
def test_images_of_another_shape_are_refused(
    tmp_path: Path, images: Split, channels: int, side: int, declared: str
) -> None:
    path = classifier(tmp_path / "other.onnx", np.ones((2, channels)), channels, side)
    with pytest.raises(EdgeLatheError) as caught:
        measure(
            [Deployable("other", path, PREPROCESS)], QUICK, images=images, root=tmp_path, seed=0, say=lambda _: None
        )
    assert str(caught.value) == (
        f'Cannot give input "input" [{declared}] of the model {path} the shape [6, 1, 2, 2]: they do not agree; '
        "give the shape that the model declares."
    )


def test_impossible_measurements_are_refused_before_anything_is_computed() -> None:
    check(BenchSection())
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(EdgeLatheError, match=f"^Cannot measure with {cores + 1} threads on {cores} processor cores"):
        check(BenchSection(threads=(1, cores + 1)))
    with pytest.raises(EdgeLatheError, match=r'^Unknown runtime "onnxruntim": did you mean "onnxruntime"'):
        check(BenchSection(runtimes=("onnxruntime", "onnxruntim")))
