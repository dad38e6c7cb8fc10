"""What the README shows runs as it stands there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from edgelathe.recipe import BenchSection, DataSection, ExportSection, Recipe, load_recipe
from edgelathe.recipe_networks import TeacherSection
from edgelathe.recipe_stages import STAGES

README = Path(__file__).resolve().parent.parent / "README.md"


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[number]


def test_the_recipe_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(block("toml"))
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert [stage.do for stage in recipe.stages] == ["train", "prune-channels", "distill", "quantize"]


@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    script = block("python")
    assert len(script.strip().splitlines()) <= 12
    quick = script.replace("epochs=10", "epochs=1").replace("seconds=10", "seconds=1")
    assert quick.count("epochs=1,") + quick.count("epochs=1)") == 2
    done = subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"dense.onnx", "pruned.onnx", "int8.onnx"}
    printed = done.stdout.strip().splitlines()[-1]
    assert [entry[0] for entry in ast.literal_eval(printed)] == ["dense.onnx", "pruned.onnx", "int8.onnx"]


def test_every_key_of_a_recipe_is_documented() -> None:
    text = (README.parent / "docs" / "recipe.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:export\.|bench\.)?([a-z_]+)`", text))
    sections = (Recipe, TeacherSection, DataSection, ExportSection, BenchSection, *STAGES.values())
    keys = {key for section in sections for key in section.model_fields}
    assert keys - named - {"do", "model", "data", "teacher", "teachers", "stages", "export", "bench", "gate"} == set()
