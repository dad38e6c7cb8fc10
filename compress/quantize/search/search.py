"""Find the fastest int8 file that keeps its accuracy: several schemes, then float for the operators that need it.

HAQ (Wang et al. 2019) asks an agent which precision each layer gets under a budget. Here the budget is an accuracy
drop, the price is measured latency, and the answer comes from measurements:

1. every scheme is built and judged on images that calibration has not seen;
2. where none holds the drop, the operators of the best scheme are ranked by the noise that each alone brings, and sets
   of least noise for their latency (`knapsack`) are kept in float, small ones first, until the drop holds;
3. operators are given back to int8 one at a time as long as it goes on holding.

Everything is judged on the file that would be deployed. The best so far is always on disk, and what was measured is
kept, so that a search that was killed continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from .... import errors
from ....files import sha256_bytes, sha256_file, write_atomic
from ..audit import audit
from ..builder import Builder, Built, Pixels, Scheme
from ..calibration.imagechunks import Images, as_sliceable
from ..placing.targets import TARGETS
from .float_sets import float_costs, float_sets
from .searched import Probes, Searched
from .sensitivity import Sensitivity, logits, ordered, rounding_nodes, sensitivity_of
from .trials import LATENCY_TIE, Journal, Trial, best_of
from .weight_bits import Coding, search_bits

SCHEMES = (
    Scheme("mse", per_channel=True),
    Scheme("mse", per_channel=True, correct_bias="empirical"),
    Scheme("mse", per_channel=True, equalize="activations", correct_bias="empirical"),
    Scheme("percentile", per_channel=True, correct_bias="empirical"),
    Scheme("minmax", per_channel=True, correct_bias="empirical"),
    Scheme("mse", per_channel=False, equalize="weights", correct_bias="empirical"),
)
RANKING_IMAGES = 16
RANKING_SHARE = 0.5
"""Share of the time left that ranking may take; operators that it does not reach stay int8."""


class _OutOfTimeError(Exception):
    pass


def search_precision(
    model: Path,
    output: Path,
    images: Images,
    probes: Probes,
    *,
    labels: np.ndarray | None,
    state: Path,
    max_accuracy_drop: float,
    minutes: float = 10.0,
    target: str = "x86-vnni",
    keep_float: Sequence[str] = (),
    schemes: Sequence[Scheme] = SCHEMES,
    weight_size: float | None = None,
    coding: Coding = "entropy",
    pixels: Pixels | None = None,
    machine: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Searched:
    """Write the fastest int8 version of `model` found in `minutes` whose accuracy drops at most `max_accuracy_drop`.

    Ranges are calibrated on `images` (as `quantize` takes them). The drop, in points, is counted over the images that
    `probes.predict` classifies: against `labels` (int64 [N]), or without them as the share that is classified
    otherwise than in float. `state` is a folder in which the search is kept; started again with the same model,
    images and `machine` it continues, `minutes` counting all its processes. `keep_float` stays float in every trial.
    `weight_size` gives weights fewer bits, layer by layer, until they take that share of their bytes at eight bits
    (`weight_bits.search_bits`); what then falls back to float is not counted.

    The best so far is always at `output`: where no file holds the drop it is the most accurate one, and `held` is
    False. Raises EdgeLatheError as `quantize` does.
    """
    if max_accuracy_drop < 0 or minutes <= 0 or not schemes:
        name, value = ("max_accuracy_drop", max_accuracy_drop) if max_accuracy_drop < 0 else ("minutes", minutes)
        raise errors.inputs.impossible_setting(name, value, "0 or more" if max_accuracy_drop < 0 else "above 0")
    builder = Builder(model, images, target=target, pixels=pixels)
    settings = [target, *map(str, schemes), *keep_float, str(pixels), machine, str((weight_size, coding))]
    key = _key(model, images, labels, settings)
    search = _Search(
        builder, probes, Journal(state / "journal.json", key), labels, max_accuracy_drop, 60 * minutes, output, say
    )
    asked = tuple(keep_float)
    if weight_size is not None:
        search.choose_bits(schemes[0], asked, weight_size, coding)
    try:
        for scheme in schemes:
            search.trial(scheme, asked)
        if not search.held:
            search.fall_back(asked)
            search.give_back(asked)
        ended = "everything was tried"
    except _OutOfTimeError:
        ended = f"the {minutes:g} minutes were over"
    return search.result(ended)


class _Search:
    """A search in progress."""

    def __init__(
        self,
        builder: Builder,
        probes: Probes,
        journal: Journal,
        labels: np.ndarray | None,
        limit: float,
        seconds: float,
        output: Path,
        say: Callable[[str], None],
    ) -> None:
        self.builder, self.probes, self.journal, self.labels = builder, probes, journal, labels
        self.limit, self.seconds, self.output, self.say = limit, seconds, output, say
        self._begun = probes.clock() - journal.spent
        self._candidate = journal.path.with_name("candidate.onnx")
        self._candidate.parent.mkdir(parents=True, exist_ok=True)
        self._float = probes.predict(builder.model)

    @property
    def best(self) -> Trial | None:
        return best_of(self.journal.trials, self.limit)

    @property
    def held(self) -> bool:
        return self.best is not None and self.best.holds(self.limit)

    def spent(self) -> float:
        return self.probes.clock() - self._begun

    def _check_time(self) -> None:
        # The first file is made whatever it takes: something must be there in the end.
        usual = float(np.median([trial.seconds for trial in self.journal.trials] or [0.0]))
        if self.journal.trials and self.spent() + usual > self.seconds:
            raise _OutOfTimeError

    def choose_bits(self, scheme: Scheme, asked: Sequence[str], budget: float, coding: Coding) -> None:
        """Fewer bits for the weights of every later trial."""
        if self.journal.weight_bits is None:
            plan = self.builder.float_graph_plan(scheme, keep_float=asked)
            few = as_sliceable(self.builder.images)[:RANKING_IMAGES]
            chosen = search_bits(self.builder.float_graph(scheme), plan, few, budget=budget, coding=coding)
            self.journal.weight_bits = chosen.weight_bits
            share = chosen.coded_bytes / chosen.eight_bits_bytes
            self.say(f"weights in {share:.3f} of their bytes at eight bits ({coding})")

    # --- one trial -------------------------------------------------------------------------------------------

    def trial(self, scheme: Scheme, keep_float: Sequence[str]) -> Trial:
        """Build, judge and, where the accuracy holds, time one file; what the journal has is not done again."""
        known = self.journal.find(scheme, keep_float)
        if known is not None and (known.latency is not None or not known.holds(self.limit)):
            self._keep(known, None)
            return known
        self._check_time()
        begun = self.probes.clock()
        built = self._build(scheme, keep_float)
        trial = known or self._judged(scheme, keep_float, built)
        if trial.holds(self.limit):
            trial = replace(trial, latency=self._latency(trial))
        trial = replace(trial, seconds=self.probes.clock() - begun)
        self.journal.record(trial)
        self._keep(trial, built)
        self.say(_line(trial, self.limit))
        return trial

    def _built(self, scheme: Scheme, keep_float: Sequence[str]) -> Built:
        return self.builder.build(scheme, keep_float=keep_float, weight_bits=self.journal.weight_bits)

    def _build(self, scheme: Scheme, keep_float: Sequence[str]) -> Built:
        built = self._built(scheme, keep_float)
        write_atomic(self._candidate, built.file, "a candidate")
        return built

    def _judged(self, scheme: Scheme, keep_float: Sequence[str], built: Built) -> Trial:
        predictions = self.probes.predict(self._candidate)
        disagreed = int(np.sum(predictions != self._float))
        gained, lost = 0, disagreed
        if self.labels is not None:
            own, other = predictions == self.labels, self._float == self.labels
            gained, lost = int(np.sum(own & ~other)), int(np.sum(other & ~own))
        total = len(self._float)
        low, high = self.probes.interval(gained, lost, total)
        return Trial(
            scheme=scheme,
            keep_float=tuple(keep_float),
            gained=gained,
            lost=lost,
            disagreed=disagreed,
            total=total,
            low=-100.0 * high,
            high=-100.0 * low,
            file_bytes=len(built.file),
            seconds=0.0,
        )

    def _latency(self, trial: Trial) -> float:
        """Of the candidate; files that differ in their codes alone take the same time and share one measurement."""
        known = [t.latency for t in self.journal.trials if t.latency is not None and t.runs_like(trial)]
        return known[0] if known else self.probes.measure(self._candidate)

    def _keep(self, trial: Trial, built: Built | None) -> None:
        """Write the file where this trial is the best so far and its file is not there."""
        if trial == self.best and not (built is None and self._is_kept()):
            file = (built or self._built(trial.scheme, trial.keep_float)).file
            write_atomic(self.output, file, "the int8 model")
            self.journal.kept = sha256_bytes(file)
        self.journal.spent = self.spent()
        self.journal.write()

    def _is_kept(self) -> bool:
        return self.output.is_file() and sha256_file(self.output) == self.journal.kept

    # --- float for operators -----------------------------------------------------------------------------------

    def fall_back(self, asked: Sequence[str]) -> None:
        """Keep ever larger sets of operators in float until the drop holds, then close in on the smallest that do."""
        best = self.best
        assert best is not None
        costs = self._costs(best.scheme)
        sets = [
            (*asked, *names)
            for names in float_sets(self.builder.float_graph(best.scheme), self.ranking(best.scheme, asked), costs)
            if self.builder.leaves_int8([*asked, *names])
        ]
        self.say(f"{len(sets)} sets of float operators to choose from")
        low, high = -1, None
        step = 0
        while high is None and low + 1 < len(sets):
            number = min(low + 2**step, len(sets) - 1)
            if self.trial(best.scheme, sets[number]).holds(self.limit):
                high = number
            else:
                low, step = number, step + 1
        while high is not None and high - low > 1:
            middle = (low + high) // 2
            if self.trial(best.scheme, sets[middle]).holds(self.limit):
                high = middle
            else:
                low = middle

    def give_back(self, asked: Sequence[str]) -> None:
        """Return operators of the best file to int8, the dearest first, while its accuracy holds."""
        best = self.best
        if best is None or not best.holds(self.limit):
            return
        costs = self._costs(best.scheme)
        for name in sorted(set(best.keep_float) - set(asked), key=lambda name: (-costs.get(name, 0.0), name)):
            assert best is not None
            if len(best.keep_float) - len(asked) < 2:
                return
            fewer = self.trial(best.scheme, [kept for kept in best.keep_float if kept != name])
            if fewer.holds(self.limit) and _as_fast(fewer, best):
                best = fewer

    def ranking(self, scheme: Scheme, asked: Sequence[str]) -> tuple[Sensitivity, ...]:
        """Sensitivity of every operator that was reached in the time, most noise first."""
        known = self.journal.rankings.setdefault(str(scheme), [])
        plan = self.builder.float_graph_plan(scheme, keep_float=asked)
        names = [name for name in rounding_nodes(plan) if name not in {found.name for found in known}]
        if names:
            few = as_sliceable(self.builder.images)[:RANKING_IMAGES]
            graph = self.builder.float_graph(scheme)
            reference = logits(graph, few)
            until = self.spent() + RANKING_SHARE * (self.seconds - self.spent())
            for name in names:
                if self.spent() >= until:
                    break
                known.append(sensitivity_of(graph, plan, name, few, reference))
                self.journal.spent = self.spent()
                self.journal.write()
        return ordered(known)

    def _costs(self, scheme: Scheme) -> dict[str, float]:
        if self.probes.node_times is None:
            return {}
        float_file, int8_file = self._timed_files()
        graph = self.builder.float_graph(scheme)
        write_atomic(float_file, ir.to_proto(graph).SerializeToString(), "the prepared model")
        write_atomic(int8_file, self.builder.build(scheme).file, "a candidate")
        before, after = self.probes.node_times(float_file), self.probes.node_times(int8_file)
        return float_costs(graph, before, after)

    def _timed_files(self) -> tuple[Path, Path]:
        return self.journal.path.with_name("prepared.onnx"), self.journal.path.with_name("costs.onnx")

    # --- the end -------------------------------------------------------------------------------------------------

    def result(self, ended: str) -> Searched:
        best = self.best
        assert best is not None
        if best.latency is None:
            self._build(best.scheme, best.keep_float)
            best = replace(best, latency=self._latency(best))
            self.journal.record(best)
        built = self._built(best.scheme, best.keep_float)
        self._keep(best, built)
        for scratch in (self._candidate, *self._timed_files()):
            scratch.unlink(missing_ok=True)
        ranked = self.journal.rankings.get(str(best.scheme), [])
        return Searched(
            best=best,
            held=best.holds(self.limit),
            max_accuracy_drop=self.limit,
            ended=ended,
            trials=tuple(self.journal.trials),
            sensitivities=ordered(ranked),
            weight_bits=self.journal.weight_bits,
            plan=built.plan,
            audit=audit(built.file, built.plan.nodes, signed=TARGETS[built.plan.target].activations == "int8"),
            images=len(as_sliceable(self.builder.images)),
        )


def _as_fast(trial: Trial, other: Trial) -> bool:
    if trial.latency is None or other.latency is None:
        return False
    return trial.latency <= other.latency * (1 + LATENCY_TIE)


def _line(trial: Trial, limit: float) -> str:
    speed = "not timed" if trial.latency is None else f"{trial.latency:.3f} x"
    kept = f", {len(trial.keep_float)} in float" if trial.keep_float else ""
    verdict = "holds" if trial.holds(limit) else "misses"
    return f"{trial.scheme}{kept}: drop {trial.drop:.2f} points ({verdict}), {speed}, {trial.seconds:.1f} s"


def _key(model: Path, images: Images, labels: np.ndarray | None, settings: Sequence[str]) -> str:
    """SHA-256 over all that measurements depend on."""
    digest = hashlib.sha256("\n".join([sha256_file(model), *settings]).encode())
    source = as_sliceable(images)
    for start in range(0, len(source), 64):
        digest.update(np.ascontiguousarray(source[start : start + 64]).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, "<i8").data)
    return digest.hexdigest()
