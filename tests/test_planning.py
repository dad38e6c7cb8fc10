from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgelathe
import pytest
from edgelathe import planning
from edgelathe.compress.prune.sensitivity import Sensitivity
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe import load_recipe
from edgelathe.widthsfile import read_widths


@pytest.fixture
def workplace(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the folder that holds toy.toml and its finished run."""
    return shutil.copytree(toy_run.parent.parent, tmp_path / "work")


@pytest.fixture
def plan(workplace: Path) -> Callable[..., Any]:
    """Plans the toy recipe, beside its finished run."""

    def make(*overrides: str, **settings: Any) -> Any:
        return edgelathe.plan(workplace / "toy.toml", overrides=overrides, runs=workplace / "runs", **settings)

    return make


def test_the_widths_that_a_recipe_leads_to_are_a_file_that_it_takes(plan: Callable[..., Any], workplace: Path) -> None:
    output = workplace / "widths.toml"
    made = plan(output=output)
    whole = {width.layer: (width.before, width.after) for width in made.widths if width.after == width.before}
    assert whole == {"conv1": (16, 16), "linear": (10, 10)}
    assert all(width.reason for width in made.widths if width.layer in whole)
    assert read_widths(output) == {width.layer: width.after for width in made.widths if width.layer not in whole}
    assert len(read_widths(output)) == 3
    assert made.pruned_macs == (made.steps[1].macs, made.steps[2].macs)
    again = plan(f"stages.1.widths={output}")
    assert again.widths == made.widths
    assert again.pruned_macs == made.pruned_macs
    assert again.steps[2].what == "prune-channels by fpgm to stated widths"
    text = output.read_text()
    assert "for the key widths of stages.1 (prune-channels)" in text
    assert '# "linear" = 10 # of 10; its channels are the network\'s outputs' in text


def test_a_file_edited_by_hand(plan: Callable[..., Any], workplace: Path) -> None:
    (workplace / "widths.toml").write_text("[widths]\nlayer1.0.conv1 = 5\nlayer3.0.conv2 = 1.0\n")
    recipe = (workplace / "toy.toml").read_text()
    (workplace / "toy.toml").write_text(recipe.replace('"prune-channels"', '"prune-channels"\nwidths = "widths.toml"'))
    widths = {width.layer: width for width in plan().widths}
    assert (widths["layer1.0.conv1"].before, widths["layer1.0.conv1"].after) == (16, 5)
    assert widths["layer2.0.conv1"].reason == "no narrower width is stated for it"
    (workplace / "widths.toml").write_text("[widths]\nlayer1.0.conv9 = 5\n")
    with pytest.raises(EdgeLatheError) as caught:
        plan()
    assert str(caught.value) == 'Unknown layer in widths "layer1.0.conv9": did you mean "layer1.0.conv2"?'


def test_steps_show_each_with_its_recovery(plan: Callable[..., Any]) -> None:
    made = plan("stages.1.steps=2", "stages.1.keep_macs=0.4")
    whats = [step.what for step in made.steps[2:6]]
    assert whats == [
        "prune-channels by fpgm to 40% of the MACs, step 1 of 2",
        "distill for 1 epoch",
        "prune-channels by fpgm to 40% of the MACs, step 2 of 2",
        "distill for 1 epoch",
    ]
    macs = [step.macs / made.steps[0].macs for step in made.steps[2:6]]
    assert macs[0] == macs[1]
    assert macs[2] == macs[3]
    assert 0.58 < macs[0] <= 0.4**0.5
    assert 0.36 < macs[2] <= 0.4
    assert made.pruned_macs == (made.steps[1].macs, made.steps[4].macs)
    assert made.widths[1].before == 16, "before the first step"


def test_a_scan_goes_on_from_the_run_and_chooses_widths(plan: Callable[..., Any], workplace: Path) -> None:
    output, said, told = workplace / "widths.toml", [], []
    made = plan(
        scan=True, images=60, output=output, say=said.append, on_progress=lambda done, total: told.append((done, total))
    )
    assert "train: already done" in said
    assert told == [(1, 3), (2, 3), (3, 3)]
    folder = workplace / "runs" / "toy"
    assert (folder / "2-prune-channels").is_dir(), "what the run made stays"
    found = Sensitivity.from_json((folder / planning.SCAN).read_bytes())
    assert found.images == 60
    scanned = {width.layer: width.scanned for width in made.widths if width.scanned}
    assert scanned.keys() == {"layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"}
    points = next(group.points for group in found.groups if group.layer == "layer1.0.conv1")
    assert [(p.after, p.loss + found.loss, p.right * 60 + found.correct) for p in scanned["layer1.0.conv1"]] == [
        (p.after, pytest.approx(p.loss), pytest.approx(p.correct)) for p in points
    ]
    before, after = made.pruned_macs
    assert 0.45 * before < after <= 0.5 * before
    assert read_widths(output) == {w.layer: w.after for w in made.widths if w.after < w.before}
    assert tomllib.loads(output.read_text()).keys() == {"widths"}
    assert f"of 16; loss {points[0].loss - found.loss:+.4f} at 12" in output.read_text()
    assert "Nothing was trained" not in made.note
    told.clear()
    assert plan(scan=True, images=60) == made


def test_the_scan_weighs_what_the_recipe_asks_for(plan: Callable[..., Any]) -> None:
    made = plan("stages.1.keep_macs=0.7", "stages.1.multiple=8", scan=True, images=40, measure="accuracy")
    before, after = made.pruned_macs
    assert after <= 0.7 * before
    assert all(width.after % 8 == 0 for width in made.widths if width.after < width.before)
    assert any(width.after < width.before for width in made.widths)


@pytest.mark.parametrize(
    ("overrides", "settings", "sentence"),
    [
        (
            ["stages=[]"],
            {"scan": True},
            "Cannot plan widths for the recipe toy: it has no stage that prunes channels; add one, do ="
            ' "prune-channels", or leave --scan and --output out.',
        ),
        (["stages=[]"], {"output": "widths.toml"}, "Cannot plan widths for the recipe toy: it has no stage that"),
        (
            ["stages.1.keep_params=0.5"],
            {"scan": True},
            "Cannot choose widths by a sensitivity scan for keep_params: it weighs what is lost against MACs; give"
            " keep_macs.",
        ),
        ([], {"scan": True, "measure": "los"}, 'Unknown measure "los": did you mean "loss"?'),
        (["stages.1.multiple=auto"], {"scan": True}, "Cannot use multiple = auto: it must be 1 or more, where widths"),
    ],
)
def test_what_cannot_be_planned(
    workplace: Path, overrides: list[str], settings: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    recipe = load_recipe("toy.toml", overrides)
    with pytest.raises(EdgeLatheError) as caught:
        edgelathe.plan(recipe, images=30, **settings)
    assert str(caught.value).startswith(sentence)
    assert not (workplace / "widths.toml").exists()


def test_on_the_command_line(command: Callable[..., Any], refused: Callable[..., str], workplace: Path) -> None:
    recipe, runs = workplace / "toy.toml", workplace / "runs"
    ended = command("plan", recipe, "--scan", "--images", 40, "--runs", runs, "-o", workplace / "w.toml")
    assert ended.code == 0
    assert "loss at widths" in ended.out
    assert f"The widths are in {workplace / 'w.toml'}; to use them, set the key widths of the stage to that file." in (
        ended.out.replace("\n", "")
    )
    quiet = command("plan", recipe, "--quiet")
    assert (quiet.code, quiet.out) == (0, "")
    assert refused("plan", recipe, "--set", "stages=[]", "--scan").startswith("Cannot plan widths for the recipe toy")
