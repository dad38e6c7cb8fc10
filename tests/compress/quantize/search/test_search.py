"""A toy network with one convolution whose weights no single scale can hold: the search must find exactly that one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.paired import paired_interval
from edgelathe.compress.quantize.builder import Builder, Scheme
from edgelathe.compress.quantize.search.search import SCHEMES, search_precision
from edgelathe.compress.quantize.search.searched import Probes, Searched
from edgelathe.compress.quantize.search.trials import Journal, Trial
from edgelathe.errors import EdgeLatheError
from edgelathe.files import sha256_file

from ..conftest import images, model_from_text, run

CHAIN = """
chain (float[N,3,8,8] input) => (float[N,10] logits) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <pads = [1,1,1,1]> (r0, w1, b1)
  r1 = Relu (c1)
  c2 = Conv <pads = [1,1,1,1]> (r1, w2, b2)
  r2 = Relu (c2)
  p = GlobalAveragePool (r2)
  f = Flatten (p)
  logits = Gemm <transB = 1> (f, w3, b3)
}
"""
WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,),
    "w3": (10, 8), "b3": (10,),
}  # fmt: skip
PER_TENSOR = Scheme("minmax", per_channel=False)
PER_CHANNEL = Scheme("minmax", per_channel=True)
BAD = "bad"


def chain(*, spoilt: bool = True) -> onnx.ModelProto:
    """Channel 0 after the first convolution is always 0, so the huge weight that multiplies it does nothing but take
    the second convolution's range."""
    model = model_from_text(CHAIN, WEIGHTS, seed=3)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = {name: onnx.numpy_helper.to_array(tensor).copy() for name, tensor in stored.items()}
    arrays["w0"][0], arrays["b0"][0] = 0.0, 0.0
    arrays["w1"][0, 0] = 300.0 if spoilt else 0.0
    arrays["b3"] = -run(model, pictures(64, seed=1)).mean(0) + arrays["b3"]  # so that every class is somebody's
    for name in ("w0", "b0", "w1", "b3"):
        stored[name].CopyFrom(onnx.numpy_helper.from_array(arrays[name], name))
    for node in model.graph.node:
        node.name = BAD if node.output[0] == "c1" else node.output[0]
    return model


def pictures(count: int, *, seed: int) -> np.ndarray:
    """Noise with a brightness and a colour of its own in each image, which pooling does not average away."""
    colour = np.random.default_rng(seed).normal(size=(count, 3, 1, 1)).astype(np.float32)
    return images(count, (3, 8, 8), seed=seed + 1000) + 2 * colour


@dataclass
class Lab:
    """Counts what is measured and moves a clock by hand."""

    judge: np.ndarray
    seconds: float = 0.0
    per_trial: float = 1.0
    judged: list[str] = field(default_factory=list)
    timed: int = 0
    slow: Mapping[str, float] = field(default_factory=dict)

    def predict(self, path: Path) -> np.ndarray:
        self.judged.append(path.name)
        self.seconds += self.per_trial
        return run(path, self.judge).argmax(axis=1)

    def measure(self, path: Path) -> float:
        """0.5 x, and a tenth more for every convolution in float."""
        self.timed += 1
        graph = onnx.load(path).graph
        stored = {tensor.name for tensor in graph.initializer}
        floats = [node for node in graph.node if node.op_type in ("Conv", "Gemm") and node.input[1] in stored]
        return 0.5 + 0.1 * len(floats)

    def probes(self, **changed: object) -> Probes:
        probes = Probes(self.predict, self.measure, paired_interval, clock=lambda: self.seconds)
        return replace(probes, **changed)  # type: ignore[arg-type]

    @property
    def trials(self) -> int:
        return sum(name == "candidate.onnx" for name in self.judged)


@pytest.fixture
def model(save: Callable[[onnx.ModelProto], Path]) -> Path:
    return save(chain())


@pytest.fixture
def lab() -> Lab:
    return Lab(pictures(200, seed=5))


def search(model: Path, lab: Lab, **changed: object) -> Searched:
    settings: dict[str, object] = {
        "labels": None,
        "state": model.with_name("state"),
        "max_accuracy_drop": 12.0,
        "minutes": 10.0,
        "schemes": (PER_TENSOR,),
    }
    probes = changed.pop("probes", lab.probes())
    settings |= changed
    return search_precision(model, output_of(model), pictures(32, seed=6), probes, **settings)  # type: ignore[arg-type]


def output_of(model: Path) -> Path:
    return model.with_name("int8.onnx")


def agreement(model: Path, lab: Lab) -> float:
    return float(np.mean(run(model, lab.judge).argmax(1) == run(output_of(model), lab.judge).argmax(1)))


def test_the_one_bad_convolution_is_found_and_kept_float(model: Path, lab: Lab) -> None:
    found = search(model, lab)
    assert found.held
    assert found.best.keep_float == (BAD,)
    assert found.sensitivities[0].name == BAD
    assert found.sensitivities[0].noise > 20 * found.sensitivities[1].noise
    first = found.trials[0]
    assert (first.keep_float, first.latency) == ((), None)
    assert first.drop > 10
    assert found.best.latency == pytest.approx(0.6)
    assert 100 * (1 - agreement(model, lab)) == pytest.approx(found.best.drop)
    kinds = {node.name: node.kind for node in found.audit.nodes}
    assert kinds[BAD] == "float"
    assert [kinds[name] for name in ("c0", "c2", "logits")] == ["int8"] * 3
    assert json.loads(json.dumps(found.as_dict()))["best"]["keep_float"] == [BAD]


def test_a_scheme_that_holds_needs_no_float(save: Callable[[onnx.ModelProto], Path], lab: Lab) -> None:
    found = search(save(chain(spoilt=False)), lab, schemes=(PER_TENSOR, PER_CHANNEL))
    assert found.held
    assert [trial.scheme for trial in found.trials] == [PER_TENSOR, PER_CHANNEL]
    assert all(trial.latency == 0.5 for trial in found.trials)
    assert found.best == min(found.trials, key=lambda trial: (trial.drop, trial.disagreed)), "equally fast"
    assert (found.sensitivities, found.best.keep_float, found.ended) == ((), (), "everything was tried")


def test_files_that_differ_in_codes_alone_are_timed_once(save: Callable[[onnx.ModelProto], Path], lab: Lab) -> None:
    schemes = (PER_TENSOR, PER_CHANNEL, Scheme("mse"), Scheme("mse", correct_bias="empirical"))
    found = search(save(chain(spoilt=False)), lab, schemes=schemes)
    assert [trial.scheme for trial in found.trials] == list(schemes)
    assert all(trial.latency == 0.5 for trial in found.trials)
    assert lab.timed == 2


def test_latency_decides_which_operators_pay(model: Path, lab: Lab) -> None:
    """Where the bad one costs more in float than everything else, it is still the one whose noise must go."""
    times = {"c0": 10.0, BAD: 5000.0, "c2": 10.0, "logits": 1.0, "r0": 10.0, "c1": 5000.0, "r1": 5000.0, "r2": 10.0}
    calls: list[str] = []

    def node_times(path: Path) -> Mapping[str, float]:
        calls.append(path.name)
        share = 1.0 if path.name == "prepared.onnx" else 0.4
        return {name: share * time for name, time in times.items()}

    found = search(model, lab, probes=lab.probes(node_times=node_times))
    assert found.held
    assert BAD in found.best.keep_float
    assert found.best.keep_float == (BAD,), "what was cheap but useless was given back"
    assert set(calls) == {"prepared.onnx", "costs.onnx"}


def test_a_search_that_was_killed_continues(model: Path, lab: Lab) -> None:
    class KilledError(Exception):
        pass

    def dies(path: Path) -> np.ndarray:
        if lab.trials == 1:
            raise KilledError
        return lab.predict(path)

    with pytest.raises(KilledError):
        search(model, lab, probes=lab.probes(predict=dies))
    done = lab.trials
    assert output_of(model).is_file(), "the best so far is on disk"
    again = Lab(lab.judge)
    found = search(model, again)
    whole = Lab(lab.judge)
    fresh = search(model, whole, state=model.with_name("other"))
    assert again.trials == whole.trials - done
    assert (found.best.keep_float, found.best.drop) == (fresh.best.keep_float, fresh.best.drop)
    nothing = Lab(lab.judge)
    assert search(model, nothing).best == found.best
    assert nothing.trials == nothing.timed == 0


def test_a_killed_search_does_not_trust_a_file_that_was_changed(model: Path, lab: Lab) -> None:
    best = search(model, lab).best
    whole = output_of(model).read_bytes()
    output_of(model).write_bytes(b"broken")
    assert search(model, Lab(lab.judge)).best == best
    assert output_of(model).read_bytes() == whole


def test_a_journal_of_other_images_or_another_machine_is_not_used(model: Path, lab: Lab) -> None:
    search(model, lab)
    other = Lab(lab.judge)
    search(model, other, machine="another")
    assert other.trials == lab.trials


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 3}', '{"key": "k", "trials": [{}], "rankings": {}}'])
def test_a_damaged_journal_is_started_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(text)
    journal = Journal(tmp_path / "journal.json", "k")
    assert (journal.trials, journal.rankings, journal.spent, journal.kept) == ([], {}, 0.0, None)


def test_the_time_budget_ends_the_search_with_the_best_so_far(model: Path, lab: Lab) -> None:
    found = search(model, lab, schemes=SCHEMES, max_accuracy_drop=0.0, minutes=3.5 / 60)
    assert lab.trials == 2, "one second for float, one for each trial, and none that would not end in time"
    assert not found.held
    assert found.ended == "the 0.0583333 minutes were over"
    assert found.best.drop == min(trial.drop for trial in found.trials)
    assert found.best.latency is not None
    assert 100 * (1 - agreement(model, lab)) == pytest.approx(found.best.drop)


def test_one_file_is_made_whatever_the_time(model: Path, lab: Lab) -> None:
    lab.per_trial = 1000.0
    found = search(model, lab, minutes=0.1)
    assert len(found.trials) == 1
    assert sha256_file(output_of(model))


def test_more_time_goes_on_where_the_first_search_ended(model: Path, lab: Lab) -> None:
    short = search(model, lab, minutes=2.5 / 60)
    assert not short.held
    longer = Lab(lab.judge)
    found = search(model, longer, minutes=10.0)
    assert found.best.keep_float == (BAD,)
    assert longer.trials == len(found.trials) - len(short.trials)


def test_labels_count_gains_against_losses(model: Path, lab: Lab) -> None:
    right = run(model, lab.judge).argmax(1)
    labels = np.where(np.arange(200) < 150, right, (right + 1) % 10)
    found = search(model, lab, labels=labels)
    own = run(output_of(model), lab.judge).argmax(1)
    lost, gained = np.sum((right == labels) & (own != labels)), np.sum((own == labels) & (right != labels))
    assert (found.best.gained, found.best.lost) == (gained, lost)
    assert found.best.drop == pytest.approx((lost - gained) / 2)
    low, high = paired_interval(int(gained), int(lost), 200)
    assert (found.best.low, found.best.high) == (pytest.approx(-100 * high), pytest.approx(-100 * low))


def test_the_summary_says_what_so_few_images_can_tell(model: Path, lab: Lab) -> None:
    found = search(model, lab)
    assert f"a drop of up to {found.best.high:.2f} is not excluded" in found.summary()
    assert "200 images cannot tell drops apart" in found.summary()
    assert f"{BAD} kept in float" in found.summary()
    sure = replace(found, best=replace(found.best, high=1.0, latency=1.2))
    assert "cannot tell" not in sure.summary()
    assert "keep the float file" in sure.summary()


def test_what_was_asked_to_stay_float_stays_float(model: Path, lab: Lab) -> None:
    found = search(model, lab, keep_float=("c2",))
    assert set(found.best.keep_float) == {"c2", BAD}
    assert all("c2" in trial.keep_float for trial in found.trials)


@pytest.mark.parametrize(("key", "value"), [("max_accuracy_drop", -0.1), ("minutes", 0.0)])
def test_settings_that_make_no_sense_are_refused(key: str, value: float, model: Path, lab: Lab) -> None:
    with pytest.raises(EdgeLatheError, match=key):
        search(model, lab, **{key: value})


def test_a_trial_survives_its_journal() -> None:
    trial = Trial(PER_TENSOR, ("a", "b"), 1, 2, 4, 100, -1.0, 3.0, 5000, 1.5, 0.4)
    assert Trial.from_dict(json.loads(json.dumps(trial.as_dict()))) == trial
    assert trial.drop == 1.0
    assert trial.holds(1.0) and not trial.holds(0.9)


def test_the_builder_reads_and_calibrates_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgelathe.compress.quantize import builder as module

    calls: list[int] = []
    original = module.calibrate
    monkeypatch.setattr(module, "calibrate", lambda *a, **k: calls.append(1) or original(*a, **k))
    builder = Builder(model, pictures(16, seed=6), target="x86-vnni")
    schemes = (PER_TENSOR, PER_CHANNEL, Scheme("mse"), Scheme("mse", correct_bias="analytic"))
    files = [builder.build(scheme, keep_float=keep).file for scheme in schemes for keep in ((), (BAD,))]
    assert len(calls) == 1
    assert len(set(files)) == len(files)


def test_repairs_are_schemes_like_others(model: Path) -> None:
    """An equalized per-tensor file of the spoilt network is as good as one per channel."""
    seen = pictures(64, seed=8)
    builder = Builder(model, seen, target="x86-vnni")
    reference = run(model, seen)

    def noise(scheme: Scheme) -> float:
        found = run(onnx.load_from_string(builder.build(scheme).file), seen)
        return float(np.sum((found - reference) ** 2) / np.sum(reference**2))

    plain = noise(PER_TENSOR)
    assert noise(replace(PER_TENSOR, correct_bias="empirical")) < plain
    float_graph = builder.float_graph(replace(PER_TENSOR, equalize="weights"))
    assert np.allclose(run(float_graph, seen), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", [PER_TENSOR, PER_CHANNEL, Scheme("mse")], ids=str)
def test_the_builder_writes_what_quantize_writes(scheme: Scheme, model: Path) -> None:
    from edgelathe.compress.quantize.quantize import quantize

    calibration = pictures(16, seed=6)
    pixels = ((0.5,) * 3, (0.25,) * 3)
    for keep in ((), (BAD,), ("c0",)):
        output = output_of(model)
        quantize(
            model,
            output,
            calibration,
            method=scheme.method,
            per_channel=scheme.per_channel,
            keep_float=keep,
            equalize="none",
            correct_bias="none",
            pixels=pixels,
        )
        builder = Builder(model, calibration, target="x86-vnni", pixels=pixels)
        assert builder.build(scheme, keep_float=keep).file == output.read_bytes()
