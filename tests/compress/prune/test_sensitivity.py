from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.sensitivity import Sensitivity, scan_sensitivity
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def judged() -> Samples:
    generator = torch.Generator().manual_seed(3)
    return Samples(torch.randn(10, 3, 8, 8, generator=generator), torch.randint(0, 4, (10,), generator=generator))


class Counting(nn.Module):
    """The network, and how often it ran on all ten images (the scan copies it, so the count is shared)."""

    runs: list[int]

    def __init__(self, inner: nn.Module, runs: list[int]) -> None:
        super().__init__()
        self.inner = inner
        Counting.runs = runs

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 10:
            Counting.runs.append(1)
        return self.inner(x)


def test_a_point_is_the_loss_of_the_network_in_which_nothing_reads_the_weakest_filters(
    make: Make, example: Tensor, judged: Samples
) -> None:
    model = make("Residual")
    found = scan_sensitivity(model, example, judged, criterion="l1", ratios=[0.3, 0.6], batch=4)
    inner = next(group for group in found.groups if group.layer == "inner")
    assert [point.after for point in inner.points] == [7, 4]
    weakest = model.inner.weight.abs().sum(dim=(1, 2, 3)).argsort()  # type: ignore[union-attr, operator]
    for point in inner.points:
        blind = make("Residual")
        with torch.no_grad():
            blind.outer.weight[:, weakest[: 10 - point.after]] = 0  # type: ignore[index, operator]
            logits = blind(judged.inputs)
        assert point.loss == pytest.approx(float(F.cross_entropy(logits, judged.labels)), abs=1e-6)
        assert point.correct == int((logits.argmax(1) == judged.labels).sum())
    with torch.no_grad():
        whole = model(judged.inputs)
    assert found.loss == pytest.approx(float(F.cross_entropy(whole, judged.labels)), abs=1e-6)
    assert (found.correct, found.images) == (int((whole.argmax(1) == judged.labels).sum()), 10)
    assert found.lost(inner.points[0], "loss") == inner.points[0].loss - found.loss
    assert found.lost(inner.points[0], "accuracy") == (found.correct - inner.points[0].correct) / 10


def test_the_network_is_left_as_it_was(make: Make, example: Tensor, judged: Samples) -> None:
    model = make("Inverted").train()
    before = state_sha256(model)
    scan_sensitivity(model, example, judged, ratios=[0.5])
    assert state_sha256(model) == before
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_groups_that_cannot_be_cut_are_listed_with_the_reason(make: Make, example: Tensor, judged: Samples) -> None:
    found = scan_sensitivity(make("OptionA"), example, judged, ratios=[0.25, 0.5, 0.75], ignore=["fc"])
    reasons = {group.layer: group.reason for group in found.groups}
    assert reasons["inner"] == ""
    assert reasons["stem"].startswith("the option A shortcut")
    assert {group.layer for group in found.groups if group.points} == {"inner"}
    printed = str(found)
    assert all(group.layer in printed and group.reason in printed for group in found.groups)


def test_each_width_is_judged_once_however_many_ratios_round_to_it(
    make: Make, example: Tensor, judged: Samples
) -> None:
    found = scan_sensitivity(make("Inverted"), example, judged, ratios=[0.99, 0.9, 0.5, 0.49, 0.01])
    squeeze = next(group for group in found.groups if group.layer == "squeeze")
    assert [point.after for point in squeeze.points] == [2, 1]  # of 4; 0.01 of it is no channel


def test_an_interrupted_scan_continues_where_it_was_and_ends_the_same(
    make: Make, example: Tensor, judged: Samples, tmp_path: Path
) -> None:
    runs: list[int] = []
    model = Counting(make("Chain"), runs)
    undisturbed = scan_sensitivity(model, example, judged, ratios=[0.5])
    assert len(runs) == 1 + 3, "the whole network, and each of three groups"
    told: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    state = tmp_path / "scan.json"
    with pytest.raises(KeyboardInterrupt):
        scan_sensitivity(model, example, judged, ratios=[0.5], state=state, on_progress=interrupt)
    assert told == [(1, 3), (2, 3)]
    runs.clear()
    assert scan_sensitivity(model, example, judged, ratios=[0.5], state=state) == undisturbed
    assert len(runs) == 1 + 1
    assert Sensitivity.from_json(state.read_bytes(), state) == undisturbed


@pytest.mark.parametrize("change", ["weights", "images", "criterion", "ratios", "damage"])
def test_a_scan_of_anything_else_is_not_continued(
    make: Make, example: Tensor, judged: Samples, tmp_path: Path, change: str
) -> None:
    state = tmp_path / "scan.json"
    first = scan_sensitivity(make("Chain"), example, judged, ratios=[0.5], state=state)
    model, ratios, criterion = make("Chain"), [0.5], "fpgm"
    if change == "weights":
        with torch.no_grad():
            model.fc2.bias.add_(1)  # type: ignore[union-attr, operator]
    if change == "images":
        judged = replace(judged, inputs=judged.inputs.flip(0))
    if change == "criterion":
        criterion = "random"
    if change == "ratios":
        ratios = [0.75]
    if change == "damage":
        state.write_text(state.read_text()[:-9])
    second = scan_sensitivity(model, example, judged, ratios=ratios, criterion=criterion, state=state)
    assert second == scan_sensitivity(model, example, judged, ratios=ratios, criterion=criterion)
    assert (second == first) == (change == "damage")


def test_a_scan_survives_its_json_and_tampered_ones_are_refused(make: Make, example: Tensor, judged: Samples) -> None:
    found = scan_sensitivity(make("Chain"), example, judged, ratios=[0.25, 0.75])
    text = found.to_json()
    assert Sensitivity.from_json(text) == found

    def refusal(edit: Callable[[dict[str, object]], object]) -> str:
        document = json.loads(text)
        edit(document)
        with pytest.raises(EdgeLatheError) as caught:
            Sensitivity.from_json(json.dumps(document), "s.json")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def point(document: dict[str, object], **values: object) -> None:
        document["groups"][0]["points"][1].update(values)  # type: ignore[index]

    head = "Cannot read the sensitivity scan s.json: "
    assert refusal(lambda d: d.update(format=9)) == f"{head}its format is 9, not 1; scan again."
    assert refusal(lambda d: d.update(extra=1)).startswith(f"{head}extra: ")
    assert refusal(lambda d: point(d, after=8)).startswith(f"{head}the points of conv1 must have descending widths")
    assert refusal(lambda d: point(d, after=0)).startswith(f"{head}the points of conv1 must have descending widths")
    assert refusal(lambda d: point(d, correct=11)) == (
        f"{head}correct of conv1 must lie between 0 and the 10 images; scan again."
    )
    assert refusal(lambda d: point(d, loss="NaN")).startswith(f"{head}groups.0.points.1.loss: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratios": []}, r"Cannot use ratios = \[\]: it must be a list of numbers above 0 and below 1\."),
        ({"ratios": [0.5, 1.0]}, "above 0 and below 1"),
        ({"batch": 0}, "Cannot use batch = 0: it must be 1 or more"),
        ({"criterion": "l9"}, 'Unknown criterion "l9"'),
        ({"ignore": ["conv1", "conv2", "fc1"]}, "no group of channels may be cut"),
    ],
)
def test_impossible_requests(
    make: Make, example: Tensor, judged: Samples, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        scan_sensitivity(make("Chain"), example, judged, **settings)  # type: ignore[arg-type]


def test_images_that_the_network_has_no_class_for(make: Make, example: Tensor, judged: Samples) -> None:
    strange = replace(judged, labels=judged.labels + 3)
    with pytest.raises(EdgeLatheError, match=r"with labels up to 6 from outputs of shape \[10, 4\]"):
        scan_sensitivity(make("Chain"), example, strange)
