from __future__ import annotations

import inspect
import sys
import tomllib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edgelathe.compress.augment import AUGMENTS
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.distill.self_distill import self_distill
from edgelathe.compress.distill.several import COMBINES, SEVERAL_FEATURES, distill_several
from edgelathe.compress.distill.weighting.names import WEIGHTINGS
from edgelathe.compress.mix import MIXES
from edgelathe.compress.options import TrainingOptions
from edgelathe.compress.penalty import SPARSITIES
from edgelathe.compress.precision import PRECISIONS
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.criteria import CRITERIA
from edgelathe.compress.quantize.calibration.ranges import METHODS
from edgelathe.compress.quantize.learning.int8_gradients import Gradients
from edgelathe.compress.quantize.learning.qat import qat
from edgelathe.compress.quantize.learning.value_ranges import RANGES
from edgelathe.compress.quantize.placing.targets import TARGETS
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.compress.quantize.storage.store_weights import FORMATS, store_weights
from edgelathe.compress.schedule import SCHEDULES
from edgelathe.compress.sparsify.patterns import SCOPES
from edgelathe.compress.sparsify.sparsify import sparsify
from edgelathe.compress.sparsify.sparsify_gradually import CRITERIA as SPARSITY_CRITERIA
from edgelathe.compress.sparsify.sparsify_gradually import sparsify_gradually
from edgelathe.compress.surgery.drop_squeeze_excite import drop_squeeze_excite
from edgelathe.compress.surgery.open_shortcuts import open_shortcuts
from edgelathe.compress.surgery.replace_activations import replace_activations
from edgelathe.compress.train import train
from edgelathe.errors import EdgeLatheError
from edgelathe.models.edits import REPLACED_BY
from edgelathe.recipe import BenchSection, Recipe, bench_section, load_recipe, shipped_files, shipped_recipes
from edgelathe.recipe_stages import (
    PRUNED_BY_THE_STAGE,
    SEARCH_KEYS,
    SPARSIFIED_BY_THE_STAGE,
    STAGES,
    Distill,
    DistillSeveral,
    PruneChannels,
    PruneStep,
    Qat,
    Quantize,
    ReplaceActivations,
    Sparsify,
    SparsifyGradually,
    StoreWeights,
    Train,
    expanded,
    stage_keys,
)
from edgelathe.tuning import tune_file

RECIPE = """\
# a toy
seed = 3

[model]
source = "cifar_resnet8"

[data]
source = "digits"

[[stages]]
do = "train"                # line 11
epochs = 2

[[stages]]
do = "prune-channels"
criterion = "fpgm"
keep_macs = 0.5

[[stages]]
do = "quantize"

[gate]
size = "<= 0.5 x"
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = RECIPE, name: str = "toy.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | str | None, *overrides: str) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        load_recipe(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is read -------------------------------------------------------------------------------------------


def test_a_recipe_becomes_typed_stages_with_the_defaults_of_their_functions(written: Callable[..., Path]) -> None:
    recipe = load_recipe(written())
    assert (recipe.name, recipe.seed) == ("toy", 3)
    assert [type(stage) for stage in recipe.stages] == [Train, PruneChannels, Quantize]
    assert stage_keys(recipe.stages[1]) == {
        "criterion": "fpgm",
        "keep_macs": 0.5,
        "keep_params": None,
        "keep_latency": None,
        "scope": "uniform",
        "multiple": 1,
        "ignore": (),
        "latency_of": "float",
        "images": 512,
        "reestimate_norms": True,
        "widths": None,
        "steps": 1,
    }
    assert recipe.gate == {"size": "<= 0.5 x"}
    assert recipe.bench == BenchSection()


def test_the_name_defaults_to_the_files(written: Callable[..., Path]) -> None:
    assert load_recipe(written(name="my-own.v2.toml")).name == "my-own.v2"
    assert load_recipe(written('name = "other"\n' + RECIPE)).name == "other"


def test_without_a_path_it_is_the_shipped_digits() -> None:
    assert load_recipe() == load_recipe("digits") == load_recipe(shipped_recipes()["digits"])


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_valid_and_named_as_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.gate
    assert recipe.stages[-1].do in ("quantize", "qat")


def test_shipped_recipes_are_all_found() -> None:
    folder = Path(__file__).resolve().parent.parent / "recipes"
    assert set(shipped_files()) == {path.stem for path in folder.iterdir()}


def test_a_recipe_survives_its_own_json() -> None:
    recipe = load_recipe("cifar10-resnet32")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


# --- the stages are the functions ---------------------------------------------------------------------------

GIVEN_BY_THE_PIPELINE = {
    *("model", "teacher", "teachers", "data", "example", "images", "output", "preprocess", "teacher_preprocess"),
    *(
        "objective",
        "constraint",
        "state",
        "answers_in",
        "on_epoch",
        "on_progress",
        "progress",
        "title",
        "seed",
        "pixels",
        "samples",
        "measure",
    ),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "train": train,
    "distill": distill,
    "distill-several": distill_several,
    "self-distill": self_distill,
    "prune-channels": prune_channels,
    "sparsify": sparsify,
    "sparsify-gradually": sparsify_gradually,
    "quantize": quantize,
    "qat": qat,
    "replace-activations": replace_activations,
    "drop-squeeze-excite": drop_squeeze_excite,
    "open-shortcuts": open_shortcuts,
    "store-weights": store_weights,
}


def test_every_stage_has_its_function() -> None:
    assert FUNCTIONS.keys() == STAGES.keys()


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword arguments and their defaults, those of **training: Unpack[...] among them; theirs are train's but for the
    DEFAULTS beside the function, which its own test holds it to."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (options,) = typing.get_args(typing.get_type_hints(function)[name])
            assert typing.is_typeddict(options)
            defaults = keywords(train) | sys.modules[function.__module__].DEFAULTS
            found.update({key: defaults[key] for key in options.__annotations__ if key not in GIVEN_BY_THE_PIPELINE})
        elif name not in GIVEN_BY_THE_PIPELINE:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
            found[name] = parameter.default
    return found


def test_what_training_functions_share_is_what_train_takes() -> None:
    hints = typing.get_type_hints(TrainingOptions)
    wanted = typing.get_type_hints(train)
    not_shared = {"model", "data", "preprocess", "objective", "return"}
    assert hints == {name: hint for name, hint in wanted.items() if name not in not_shared}


@pytest.mark.parametrize("do", sorted(FUNCTIONS))
def test_the_keys_of_a_stage_are_the_keywords_of_its_function(do: str) -> None:
    wanted = keywords(FUNCTIONS[do])
    fields = {name: field for name, field in STAGES[do].model_fields.items() if name != "do"}
    if do == "quantize":
        searching = inspect.signature(tune_file).parameters
        assert {name: fields.pop(name).default for name in SEARCH_KEYS if name != "max_accuracy_drop"} == {
            name: searching[name].default for name in SEARCH_KEYS if name != "max_accuracy_drop"
        }
        assert fields.pop("max_accuracy_drop").default is None, "without it nothing is searched"
        assert set(fields) <= set(searching)
    if do == "sparsify":
        assert {name: fields.pop(name).default for name in SPARSIFIED_BY_THE_STAGE} == {"reestimate_norms": True}
    if do == "prune-channels":
        assert {name: fields.pop(name).default for name in PRUNED_BY_THE_STAGE} == {
            "latency_of": "float", "images": 512, "reestimate_norms": True, "widths": None, "steps": 1,
        }  # fmt: skip
    assert fields.keys() == wanted.keys()
    for name, field in fields.items():
        assert (inspect.Parameter.empty if field.is_required() else field.default) == wanted[name], name


@pytest.mark.parametrize(
    ("stage", "key", "words"),
    [
        (Train, "schedule", SCHEDULES),
        (Train, "augment", AUGMENTS),
        (Train, "mix", MIXES),
        (Train, "precision", PRECISIONS),
        (Train, "sparsity", SPARSITIES),
        (Distill, "weighting", WEIGHTINGS),
        (DistillSeveral, "combine", COMBINES),
        (DistillSeveral, "features", SEVERAL_FEATURES),
        (PruneChannels, "criterion", CRITERIA),
        (Sparsify, "scope", SCOPES),
        (SparsifyGradually, "criterion", SPARSITY_CRITERIA),
        (SparsifyGradually, "schedule", SCHEDULES),
        (Quantize, "target", TARGETS),
        (Quantize, "method", METHODS),
        (ReplaceActivations, "to", REPLACED_BY),
        (StoreWeights, "format", FORMATS),
        (Qat, "target", TARGETS),
        (Qat, "method", METHODS),
        (Qat, "ranges", RANGES),
        (Qat, "gradients", typing.get_args(Gradients)),
        (Qat, "schedule", SCHEDULES),
        (Qat, "augment", AUGMENTS),
        (Qat, "mix", MIXES),
    ],
)
def test_the_words_a_key_takes_are_those_the_function_knows(stage: type, key: str, words: Any) -> None:
    assert set(typing.get_args(typing.get_type_hints(stage)[key])) == set(words)


# --- paths --------------------------------------------------------------------------------------------------


def test_paths_start_at_the_recipes_folder_and_overrides_at_the_current_one(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    [model]
    source = "nets/mine.py:build"
    weights = "w.pth"
    [teacher]
    source = "../teacher.py:build"
    [[stages]]
    do = "distill"
    epochs = 1
    [data]
    source = "mydata.py:load"
    root = "/abs/photos"
    labels = "labels.csv"
    """
    path = written(text, "models/r.toml")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("models/r.toml"), ["model.weights=other.pth"])
    assert recipe.model.source == "models/nets/mine.py:build"
    assert recipe.model.weights == Path("other.pth")
    assert recipe.teacher is not None
    assert recipe.teacher.source == "models/../teacher.py:build"
    assert recipe.data.source == "models/mydata.py:load"
    assert (recipe.data.root, recipe.data.labels) == (Path("/abs/photos"), Path("models/labels.csv"))
    assert load_recipe(path).model.weights == path.parent / "w.pth"


def test_names_of_networks_and_data_sets_are_no_paths(written: Callable[..., Path]) -> None:
    recipe = load_recipe(written('[model]\nsource = "torchvision:mobilenet_v2"\n[data]\nsource = "cifar10"\n'))
    assert (recipe.model.source, recipe.data.source) == ("torchvision:mobilenet_v2", "cifar10")


def test_a_tilde_is_the_home_folder(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    text = '[model]\nsource = "~/net.onnx"\n[data]\nsource = "folder"\nroot = "~/photos"\n'
    recipe = load_recipe(written(text))
    assert recipe.model.source == "/home/someone/net.onnx"
    assert recipe.data.root == Path("/home/someone/photos")


# --- widths and steps of prune-channels ---------------------------------------------------------------------


PRUNED = RECIPE.replace("keep_macs = 0.5", "{keys}")


@pytest.fixture
def widths_file(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "widths.toml"
    path.parent.mkdir()
    path.write_text('[widths]\n"layer1.0.conv1" = 8\n"layer2.0.conv1" = 0.5\n')
    return path


def test_a_widths_file_becomes_part_of_the_recipe(
    written: Callable[..., Path], widths_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {"layer1.0.conv1": 8, "layer2.0.conv1": 0.5}
    path = written(PRUNED.format(keys='widths = "widths.toml"'), "models/r.toml")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("models/r.toml"))
    assert recipe.stages[1].widths == stated  # type: ignore[union-attr]
    assert str(tmp_path) not in recipe.model_dump_json()
    assert "widths.toml" not in recipe.model_dump_json()
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    inline = written(PRUNED.format(keys='widths = {"layer1.0.conv1" = 8, "layer2.0.conv1" = 0.5}'), "models/i.toml")
    assert load_recipe(inline).stages == recipe.stages
    plain = written(PRUNED.format(keys=""), "models/p.toml")
    assert load_recipe(plain, ["stages.1.widths=models/widths.toml"]).stages == recipe.stages
    monkeypatch.chdir("models")
    assert load_recipe(path).stages == recipe.stages
    assert load_recipe(plain, ["stages.1.widths=widths.toml"]).stages == recipe.stages


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ('widths = "none.toml"', "Cannot read the widths {folder}/none.toml: there is no such file; check the path."),
        ("widths = 3", "Wrong value 3 for stages.1.widths in {file}, line 17: it must be a table."),
        (
            "widths = {a = true}",
            "Wrong value True for stages.1.widths.a in {file}, line 17: it must be a whole number or a number.",
        ),
        (
            "widths = {a = 8}\nkeep_macs = 0.4",
            "The recipe {file} cannot run: stages.1 (prune-channels) has both widths and keep_macs, and the widths"
            " decide; leave one of them out.",
        ),
        (
            "widths = {a = 8}\nsteps = 2",
            "The recipe {file} cannot run: stages.1 (prune-channels) has both steps and widths; state the widths of"
            " each step in a stage of its own, or leave steps out.",
        ),
        (
            "steps = 2",
            "The recipe {file} cannot run: stages.1 (prune-channels) has steps = 2, and no stage that trains follows it"
            " directly; let train or distill follow, which then recovers after each step, or leave steps out.",
        ),
        (
            "keep_params = 0.5\nkeep_latency = 0.5",
            "The recipe {file} cannot run: stages.1 (prune-channels) has keep_params and keep_latency, and one target"
            " decides; keep one of them.",
        ),
        (
            'latency_of = "int8"',
            "The recipe {file} cannot run: stages.1 (prune-channels) has latency_of, and nothing is measured; add"
            ' keep_latency or multiple = "auto", or leave it out.',
        ),
        ("steps = 0", "Wrong value 0 for stages.1.steps in {file}, line 17: it must be 1 or more."),
        ("step = 1", 'Unknown key "stages.1.step" in {file}, line 17: did you mean "steps"?'),
    ],
)
def test_widths_and_steps_that_cannot_be(written: Callable[..., Path], keys: str, sentence: str) -> None:
    path = written(PRUNED.format(keys=keys))
    assert refusal(path) == sentence.format(file=path, folder=path.parent)


def test_a_stage_of_several_steps_runs_with_its_recovery_in_turn(written: Callable[..., Path]) -> None:
    recovery = '[[stages]]\ndo = "distill"\nepochs = 3\n\n[[stages]]\ndo = "quantize"'
    text = PRUNED.format(keys="steps = 3\nkeep_macs = 0.4").replace('[[stages]]\ndo = "quantize"', recovery)
    recipe = load_recipe(written(text))
    train, prune, distill, quantize = recipe.stages
    made = expanded(recipe.stages)
    assert made[0] is train
    assert made[1:7:2] == tuple(PruneStep(**dict(prune), step=step) for step in (1, 2, 3))
    assert [stage.keep_macs for stage in made[1:7:2]] == [0.4, 0.4, 0.4]  # type: ignore[union-attr]
    assert made[2:7:2] == (distill, distill, distill)
    assert made[7:] == (quantize,)
    assert expanded(load_recipe(written()).stages) == load_recipe(written()).stages


# --- --set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("seed=7", "seed", 7),
        ("name=other", "name", "other"),
        (' name = "with-quotes" ', "name", "with-quotes"),
        ("name=2024-01-31", "name", "2024-01-31"),
        ("stages.0.epochs=9", "stages.0.epochs", 9),
        ("stages.0.lr=1e-3", "stages.0.lr", 0.001),
        ("stages.0.compiled=true", "stages.0.compiled", True),
        ("stages.0.compiled=auto", "stages.0.compiled", "auto"),
        ("stages.1.keep_macs=0.25", "stages.1.keep_macs", 0.25),
        ('stages.1.ignore=["conv1", "layer1"]', "stages.1.ignore", ("conv1", "layer1")),
        ("data.root=some/folder", "data.root", Path("some/folder")),
        ("data.root=2024-01-31", "data.root", Path("2024-01-31")),
        ("data.root=a=b", "data.root", Path("a=b")),
        ("bench.threads=[1, 2]", "bench.threads", (1, 2)),
        ("model.arguments.width=8", "model.arguments", {"width": 8}),
        ("model.arguments={width = 8}", "model.arguments", {"width": 8}),
        ("export={opset = 20}", "export.opset", 20),
        ("gate.latency=<= 0.9 x", "gate.latency", "<= 0.9 x"),
        ("stages=[]", "stages", ()),
    ],
)
def test_an_override_sets_one_key(written: Callable[..., Path], override: str, place: str, value: object) -> None:
    found: Any = load_recipe(written(), [override])
    for part in place.split("."):
        found = (
            found[int(part)] if part.isdecimal() else found[part] if isinstance(found, dict) else getattr(found, part)
        )
    assert found == value
    assert type(found) is type(value) or isinstance(found, Path)


def test_the_last_override_of_a_key_holds(written: Callable[..., Path]) -> None:
    assert load_recipe(written(), ["seed=1", "seed=2"]).seed == 2


HELP = "write for example --set stages.0.keep_macs=0.4."


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("seed", "it is not of the form key.path=value"),
        ("=5", "it is not of the form key.path=value"),
        ("data..root=5", "it is not of the form key.path=value"),
        (".seed=5", "it is not of the form key.path=value"),
        ("stages.3.lr=1", "there is no stage 3: the recipe has stages 0 to 2"),
        ("stages.-1.lr=1", "there is no stage -1: the recipe has stages 0 to 2"),
        ("stages.last.lr=1", "there is no stage last: the recipe has stages 0 to 2"),
        ("stages.0=1", "a whole stage cannot be set, only a key of it, as in stages.0.epochs=10"),
        ("stages.9=1", "there is no stage 9: the recipe has stages 0 to 2"),
        ("seed.x=1", "seed holds no keys"),
        ("model.source.x.y=1", "model.source holds no keys"),
        ("stages.1.ignore.0=conv1", "stages.1.ignore is a list and is set as a whole, as in stages.1.ignore=[1, 2]"),
    ],
)
def test_a_wrong_override_says_why(written: Callable[..., Path], override: str, why: str) -> None:
    path = written(RECIPE.replace('"fpgm"', '"fpgm"\nignore = ["conv1"]'))
    assert refusal(path, override) == f'Cannot use "--set {override}": {why}; {HELP}'


def test_an_override_of_a_stage_where_there_are_none(written: Callable[..., Path]) -> None:
    path = written('[model]\nsource = "cifar_resnet8"\n')
    assert refusal(path, "stages.0.lr=1") == (
        f'Cannot use "--set stages.0.lr=1": there is no stage 0: the recipe has no stages; {HELP}'
    )


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        # unknown keys, with the nearest word and the line
        ("keep_macs", "keep_mac", 'Unknown key "stages.1.keep_mac" in {file}, line 17: did you mean "keep_macs"?'),
        ("keep_macs", "keep-macs", 'Unknown key "stages.1.keep-macs" in {file}, line 17: did you mean "keep_macs"?'),
        ("keep_macs", "Keep_MACs", 'Unknown key "stages.1.Keep_MACs" in {file}, line 17: did you mean "keep_macs"?'),
        ("seed = 3", "sed = 3", 'Unknown key "sed" in {file}, line 2: did you mean "seed"?'),
        ("seed = 3", "export.opsett = 3", 'Unknown key "export.opsett" in {file}, line 2: did you mean "opset"?'),
        ("seed = 3", '"odd key" = 3', 'Unknown key "odd key" in {file}, line 2: did you mean "model"?'),
        (
            "epochs = 2",
            "epochs = 2\nfloat = 1",
            'Unknown key "stages.0.float" in {file}, line 13: valid are: augment, batch, compiled, decay_norms, do, '
            "ema, epochs, evaluate, label_smoothing, lr, mix, mix_strength, momentum, precision, schedule, sparsity, "
            "sparsity_strength, threads, views, warmup, weight_decay.",
        ),
        # unknown sections: the misspelt one is said, not that the right one is missing
        ("[data]", "[dataa]", 'Unknown key "dataa" in {file}, line 7: did you mean "data"?'),
        ("[model]", "[Model]", 'Unknown key "Model" in {file}, line 4: did you mean "model"?'),
        ("[gate]", "[gate_]", 'Unknown key "gate_" in {file}, line 22: did you mean "gate"?'),
        # unknown stages
        ('"train" ', '"trian" ', 'Unknown stage "trian" at stages.0.do in {file}, line 11: did you mean "train"?'),
        (
            '"quantize"',
            '"brew"',
            'Unknown stage "brew" at stages.2.do in {file}, line 20: '
            "valid are: distill, distill-several, drop-squeeze-excite, open-shortcuts, prune-channels, qat, quantize, "
            "replace-activations, self-distill, sparsify, sparsify-gradually, store-weights, train.",
        ),
        (
            'do = "quantize"',
            'target = "x86-vnni"',
            'Stage stages.2 in {file}, line 19 does not say what to do: add do = "quantize" or another stage\'s name.',
        ),
        # unknown values
        ('"fpgm"', '"fpgn"', 'Unknown value "fpgn" for stages.1.criterion in {file}, line 16: did you mean "fpgm"?'),
        (
            '"fpgm"',
            '"best"',
            'Unknown value "best" for stages.1.criterion in {file}, line 16: valid are: bn-scale, '
            "fpgm, fpgm-mix, hrank, l1, l2, lamp, obd, random, taylor.",
        ),
        # wrong types
        (
            "epochs = 2",
            'epochs = "x"',
            "Wrong value 'x' for stages.0.epochs in {file}, line 12: it must be a whole number.",
        ),
        (
            "epochs = 2",
            "epochs = 2.5",
            "Wrong value 2.5 for stages.0.epochs in {file}, line 12: it must be a whole number.",
        ),
        (
            "keep_macs = 0.5",
            "keep_macs = [1]",
            "Wrong value [1] for stages.1.keep_macs in {file}, line 17: it must be a number.",
        ),
        (
            "keep_macs = 0.5",
            "keep_macs = nan",
            "Wrong value nan for stages.1.keep_macs in {file}, line 17: it must be a finite number.",
        ),
        (
            "epochs = 2",
            'epochs = 2\ncompiled = "maybe"',
            "Wrong value 'maybe' for stages.0.compiled in {file}, line 13: it must be true or false or \"auto\".",
        ),
        ("seed = 3", "seed = -3", "Wrong value -3 for seed in {file}, line 2: it must be 0 or more."),
        ("seed = 3", "bench.seconds = 0", "Wrong value 0 for bench.seconds in {file}, line 2: it must be above 0."),
        (
            "seed = 3",
            "bench.threads = []",
            "Wrong value [] for bench.threads in {file}, line 2: it must be a list that is not empty.",
        ),
        (
            "seed = 3",
            "bench.runtimes = 'x'",
            "Wrong value 'x' for bench.runtimes in {file}, line 2: it must be a list.",
        ),
        (
            'size = "<= 0.5 x"',
            "size = 5",
            "Wrong value 5 for gate.size in {file}, line 23: it must be a text or a list.",
        ),
        ('[data]\nsource = "digits"', "", None),
        (
            'source = "digits"',
            "root = 5",
            "Wrong value 5 for data.root in {file}, line 8: it must be a path.",
        ),
        (
            'source = "cifar_resnet8"',
            "arguments.widths = {a = 1}",
            "Wrong value {{'a': 1}} for model.arguments.widths in {file}, line 5: "
            "it must be true or false, a whole number, a number, a text or a list.",
        ),
        # what is missing
        ("epochs = 2\n", "\n", 'Missing key "stages.0.epochs" in {file}, line 10: add it.'),
        ('[model]\nsource = "cifar_resnet8"', "", 'Missing key "model" in {file}: add it.'),
        # the name
        (
            "seed = 3",
            'name = "a/b"',
            'The name "a/b" in {file}, line 2 cannot name a folder: use letters, digits, ".", "_" and "-".',
        ),
        (
            "seed = 3",
            'name = ".."',
            'The name ".." in {file}, line 2 cannot name a folder: use letters, digits, ".", "_" and "-".',
        ),
        # what makes no sense together
        (
            'do = "train"  ',
            'do = "quantize"\n[[stages]]\ndo = "train"',
            "The recipe {file} cannot run: stages.1 (train) works on the float network and must come before quantize.",
        ),
        (
            "[data]",
            '[teacher]\nsource = "cifar_resnet20"\n[data]',
            "The recipe {file} cannot run: teacher names a network, and no stage learns from it.",
        ),
        (
            '"cifar_resnet8"',
            '"net.onnx"',
            "The recipe {file} cannot run: stages.0 (train) needs a PyTorch network, and model.source is an ONNX file;"
            " an ONNX file can be quantized, measured and gated.",
        ),
    ],
)
def test_a_wrong_recipe_says_where_and_what(
    written: Callable[..., Path], old: str, new: str, sentence: str | None
) -> None:
    assert RECIPE.count(old) == 1, "the test itself is wrong"
    path = written(RECIPE.replace(old, new))
    if sentence is None:
        assert load_recipe(path).data.source == "digits"
    else:
        assert refusal(path) == sentence.format(file=path)


def test_weights_beside_an_onnx_file_are_refused(written: Callable[..., Path]) -> None:
    path = written('[model]\nsource = "net.onnx"\nweights = "w.pth"\n')
    assert refusal(path) == (
        f"The recipe {path} cannot run: model.weights is for PyTorch networks; an ONNX file brings its own."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "stages = 3",
            "Wrong value 3 for stages in {file}, line 1: it must be a list of tables, each under [[stages]].",
        ),
        (
            '[stages]\ndo = "train"',
            "Wrong value {{'do': 'train'}} for stages in {file}, line 1: "
            "it must be a list of tables, each under [[stages]].",
        ),
        ("stages = [3]", "Wrong value 3 for stages.0 in {file}, line 1: it must be a table."),
        ('data = "digits"', "Wrong value 'digits' for data in {file}, line 1: it must be a table."),
        (
            'stages = [{do = "quantize", method = "dynamic"}]',
            "Cannot quantize dynamically, as stages.0.method in {file}, line 1 asks: measuring ranges anew on every"
            ' image makes convolution networks slower than float; leave method out, or write "mse", and they are'
            " measured once, on calibration images.",
        ),
        (
            'stages = [{do = "store-weights", per_channel = false}]',
            'Unknown key "stages.0.per_channel" in {file}, line 1: valid are: do, format, keep_float.',
        ),
        (
            'stages = [{do = "quantize", metod = "mse"}]',
            'Unknown key "stages.0.metod" in {file}, line 1: did you mean "method"?',
        ),
    ],
)
def test_a_section_of_the_wrong_kind(written: Callable[..., Path], text: str, sentence: str) -> None:
    path = written(f'{text}\n[model]\nsource = "cifar_resnet8"\n')
    assert refusal(path) == sentence.format(file=path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "stages.1.keep_mac=1",
            'Unknown key "stages.1.keep_mac" in --set stages.1.keep_mac=1: did you mean "keep_macs"?',
        ),
        (
            "stages.0.epochs=x",
            "Wrong value 'x' for stages.0.epochs in --set stages.0.epochs=x: it must be a whole number.",
        ),
        ("stages.0.do=trian", 'Unknown stage "trian" at stages.0.do in --set stages.0.do=trian: did you mean "train"?'),
        (
            "stages.1.criterion=fpg",
            'Unknown value "fpg" for stages.1.criterion in --set stages.1.criterion=fpg: did you mean "fpgm"?',
        ),
        ("bench={sed = 1}", 'Unknown key "bench.sed" in --set bench={{sed = 1}}: did you mean "seconds"?'),
        ("benhc.seconds=1", 'Unknown key "benhc" in --set benhc.seconds=1: did you mean "bench"?'),
        ("name=", 'The name "" in --set name= cannot name a folder: use letters, digits, ".", "_" and "-".'),
        ("stages=3", "Wrong value 3 for stages in --set stages=3: it must be a list of tables, each under [[stages]]."),
    ],
)
def test_what_an_override_breaks_names_the_override(written: Callable[..., Path], override: str, sentence: str) -> None:
    assert refusal(written(), override) == sentence.replace("{{", "{").replace("}}", "}")


def test_the_override_that_holds_is_named(written: Callable[..., Path]) -> None:
    assert refusal(written(), "seed=1", "seed=x", "seed=y") == (
        "Wrong value 'y' for seed in --set seed=y: it must be a whole number."
    )


def test_a_missing_recipe(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert refusal(path) == f"Cannot read the recipe {path}: there is no such file; check the path."
    assert refusal(tmp_path) == f"Cannot read the recipe {tmp_path}: there is no such file; check the path."
    assert refusal("digit") == 'Unknown recipe "digit": did you mean "digits"?'
    assert refusal("soup") == f'Unknown recipe "soup": valid are: {", ".join(sorted(shipped_recipes()))}.'


def test_a_recipe_that_is_no_toml(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("[model\nsource = 1\n")
    with pytest.raises(tomllib.TOMLDecodeError) as reason:
        tomllib.loads(path.read_text())
    assert refusal(path) == f"Cannot read the recipe {path}: it is not valid TOML ({reason.value}); mend that line."
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path).startswith(f"Cannot read the recipe {path}: it is not valid TOML ('utf-8' codec can't decode")
    path.write_text("x = " + "[" * 5000)
    assert refusal(path).startswith(f"Cannot read the recipe {path}: it is not valid TOML (")


def test_settings_of_a_measurement_given_as_keywords() -> None:
    assert bench_section(threads=[1, 2], seconds=3) == BenchSection(threads=(1, 2), seconds=3.0)
    for keys, sentence in (
        ({"seconds": 0.0}, "Cannot measure with seconds = 0.0: it must be above 0."),
        ({"batch": 0}, "Cannot measure with batch = 0: it must be 1 or more."),
        ({"threads": ()}, "Cannot measure with threads = (): it must be a list that is not empty."),
    ):
        with pytest.raises(EdgeLatheError) as caught:
            bench_section(**keys)
        assert str(caught.value) == sentence


KEPT = '[[stages]]\ndo = "self-distill"\nepochs = 1\nkeep_exits = true\n'


def test_exits_are_kept_for_the_files_made_of_the_network(written: Callable[..., Path]) -> None:
    recipe = load_recipe(written(RECIPE.replace('[[stages]]\ndo = "quantize"', KEPT + '[[stages]]\ndo = "quantize"')))
    assert [stage.do for stage in recipe.stages] == ["train", "prune-channels", "self-distill", "quantize"]


@pytest.mark.parametrize(
    ("stage", "changer"),
    [('[[stages]]\ndo = "prune-channels"', "prune-channels"), ('[[stages]]\ndo = "quantize"', "qat")],
)
def test_nothing_changes_a_network_whose_exits_are_kept(written: Callable[..., Path], stage: str, changer: str) -> None:
    text = RECIPE.replace(stage, KEPT + stage).replace('"quantize"', '"qat"\nepochs = 1')
    assert f"(self-distill) keeps its exits, and {changer} behind it would change the network" in refusal(written(text))
