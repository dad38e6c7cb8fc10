from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from edgelathe import __version__, cli, verbs
from onnx import TensorProto, helper

VERBS = (
    "run",
    "quantize",
    "store-weights",
    "pack",
    "unpack",
    "tune",
    "bench",
    "explain",
    "inspect",
    "gate",
    "report",
    "doctor",
)
DENSE, INT8 = "4-export/float-dense.onnx", "5-quantize/int8-pruned.onnx"


@pytest.fixture
def toy_model(toy_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(toy_run / DENSE, tmp_path / "toy.onnx"))


# --- help ---------------------------------------------------------------------------------------------------


def test_help_names_every_verb(command: Callable[..., Any]) -> None:
    ended = command("--help")
    assert (ended.code, ended.err) == (0, "")
    assert set(VERBS) <= set(re.findall(r"[a-z-]+", ended.out))
    assert command("-h").out == ended.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(verb: str, command: Callable[..., Any]) -> None:
    ended = command(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(ended.out.replace("│", " ").split())
    example = re.search(rf"Example: edgelathe ({verb}.*)$", text)
    assert example, text
    parsed = typer.main.get_command(cli.app)
    verb_command = parsed.commands[verb]  # type: ignore[attr-defined]
    verb_command.make_context(verb, example[1].split()[1:], resilient_parsing=False)
    assert "--json" in text
    assert "--quiet" in text


def test_the_version(command: Callable[..., Any]) -> None:
    assert command("--version").out == f"{__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    script = "import sys; sys.argv = ['edgelathe', '--help']\nfrom edgelathe import cli\n"
    script += "try: cli.main()\nexcept SystemExit: print('\\nloaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("\nloaded ")[2].split())
    heavy = {"torch", "onnx", "onnxruntime", "onnx_ir", "pydantic", "matplotlib", "numpy", "sklearn", "PIL", "jinja2"}
    assert "typer" in loaded
    assert not loaded & heavy


# --- no torch -----------------------------------------------------------------------------------------------

RECIPE = """
[model]
source = "toy.onnx"
[data]
source = "digits"
calibration = 32
limit_test = 100
[[stages]]
do = "quantize"
[bench]
seconds = 0.1
memory = false
[gate]
size = "<= 0.5 x"
"""


def test_what_needs_no_torch_never_loads_it(toy_run: Path, toy_model: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_run, tmp_path / "toy-run")
    (tmp_path / "onnx.toml").write_text(RECIPE)
    verbs_in_turn = (
        ["inspect", "toy.onnx"],
        ["gate", "toy-run"],
        ["doctor"],
        ["report", "toy-run"],
        ["bench", "toy.onnx", "--data", "digits", "--seconds", "0.1"],
        ["quantize", "toy.onnx", "--data", "digits", "--images", "32"],
        ["store-weights", "toy.onnx", "--format", "int4"],
        ["pack", "toy.onnx", "--bits", "4"],
        ["unpack", "toy.4-bit.elp"],
        ["run", "onnx.toml", "--dry-run"],
        ["run", "onnx.toml"],
    )
    script = f"""
import sys
from edgelathe import cli
for words in {verbs_in_turn}:
    sys.argv = ["edgelathe", *words, "--quiet"]
    try:
        cli.main()
    except SystemExit as end:
        print(words[0], end.code or 0, "pydantic" in sys.modules, {{"torch", "torchvision"}} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{words[0]} 0 True set()" for words in verbs_in_turn]
    assert done.stderr == ""


# --- printing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("inspect", "{model}"), {"file_bytes", "sha256", "macs", "ops", "activation_peak", "int8_macs"}),
        (("quantize", "{model}", "--data", "digits", "--images", "32"), {"file", "summary", "images", "audit"}),
        (("bench", "{model}", "--seconds", "0.1", "--no-memory"), {"candidates", "environment", "reference"}),
        (("gate", "{run}"), {"candidate", "checks", "exit_code"}),
        (("report", "{run}"), {"schema_version", "stages", "candidates", "gate"}),
        (("doctor",), {"environment", "runtimes", "int8", "hints"}),
        (("run", "{recipe}", "--dry-run"), {"name", "steps", "note"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_json_is_one_document_quiet_nothing_and_people_get_text(
    words: tuple[str, ...],
    keys: set[str],
    command: Callable[..., Any],
    toy_run: Path,
    toy_model: Path,
    tmp_path: Path,
) -> None:
    run = shutil.copytree(toy_run, tmp_path / "toy")
    recipe = tmp_path / "onnx.toml"
    recipe.write_text(RECIPE)
    words = tuple(word.format(model=toy_model, run=run, recipe=recipe) for word in words)
    as_json = command(*words, "--json")
    assert (as_json.code, as_json.err) == (0, "")
    assert keys <= json.loads(as_json.out).keys()
    assert command(*words, "--quiet") == type(as_json)(0, "", "")
    shown = command(*words)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(shown.out)


def test_names_from_files_are_not_taken_for_markup(command: Callable[..., Any], tmp_path: Path) -> None:
    names = ("[/in]", ":smile:[red]out", "[/bold]conv")
    weight = helper.make_tensor("[/w]", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    node = helper.make_node("Conv", [names[0], "[/w]"], [names[1]], name=names[2])
    value = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["[/n]", 1, 2, 2]) for name in names)
    graph = helper.make_graph([node], "g", [next(value)], [next(value)], [weight])
    path = tmp_path / "[red]odd[" / "odd.onnx"
    path.parent.mkdir()
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    ended = command("inspect", path)
    assert (ended.code, ended.err) == (0, "")
    assert names[0] in ended.out
    assert names[1] in ended.out


def test_the_finished_run_says_where_its_files_lie(command: Callable[..., Any], toy_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(toy_run.parent.parent, folder)
    ended = command("run", folder / "toy.toml", "--runs", folder / "runs")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.count(": already done\n") == 6
    assert ended.out.endswith(
        f"\nModels and reports are in {folder / 'runs' / 'toy'} (open {folder / 'runs' / 'toy' / 'report.html'})\n"
    )
    for name in ("float dense", "float pruned", "int8 pruned"):
        assert name in ended.out


# --- exit codes ---------------------------------------------------------------------------------------------


def test_a_broken_budget_ends_with_1_and_what_cannot_be_judged_with_2(
    command: Callable[..., Any], toy_run: Path, tmp_path: Path
) -> None:
    budget = tmp_path / "budget.toml"
    for text, code in (('size = "<= 1 MB"', 0), ('size = "<= 1 B"', 1), ('peak_memory = "<= 1 GB"', 2)):
        budget.write_text(text)
        ended = command("gate", toy_run, "--budget", budget, "--json")
        assert (ended.code, ended.err) == (code, "")
        assert json.loads(ended.out)["exit_code"] == code


def test_run_ends_with_the_gates_exit_code(command: Callable[..., Any], toy_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_run.parent.parent, tmp_path / "again")
    words = ("run", folder / "toy.toml", "--runs", folder / "runs")
    ended = command(*words, "--set", "gate.size=<= 1 B", "--json")
    assert (ended.code, ended.err) == (1, "")
    assert json.loads(ended.out)["gate"]["exit_code"] == 1
    assert command(*words, "--set", "gate={}", "--quiet").code == 0
    assert json.loads((folder / "runs" / "toy" / "report.json").read_text())["gate"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gates",), "No such command 'gates'. Did you mean 'gate'?"),
        (("inspect",), "Missing argument"),
        (("inspect", "a.onnx", "--bogus"), "No such option: --bogus"),
        (("bench", "a.onnx", "--threads", "two"), "Invalid value for '--threads'"),
    ],
)
def test_usage_errors_end_with_2(words: tuple[str, ...], sentence: str, command: Callable[..., Any]) -> None:
    ended = command(*words)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    as_json = command(*words, "--json")
    assert (as_json.code, as_json.err) == (2, "")
    assert list(json.loads(as_json.out)) == ["error"]
    assert sentence in json.loads(as_json.out)["error"]


def test_no_verb_at_all_shows_the_help(command: Callable[..., Any]) -> None:
    ended = command()
    assert ended.code == 2
    assert "Usage: edgelathe" in ended.out + ended.err


HINT = "Interrupted; what was finished is kept, and the same command continues."


def test_an_interrupt_ends_with_130_and_a_hint(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "inspect", interrupted)
    assert command("inspect", "a.onnx") == type(command("--version"))(130, "", f"{HINT}\n")
    as_json = command("inspect", "a.onnx", "--json")
    assert (as_json.code, as_json.err) == (130, "")
    assert json.loads(as_json.out) == {"error": HINT}


def test_a_signal_ends_a_training_and_the_same_command_continues(tmp_path: Path, toy_recipe: str) -> None:
    (tmp_path / "toy.toml").write_text(toy_recipe.replace("epochs = 4", "epochs = 100000"))
    argv = [sys.executable, "-c", "from edgelathe.cli import main; main()", "run", "toy.toml"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("train epoch 2/"):
                break
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert rest.splitlines()[-1] == HINT
    assert "Traceback" not in rest
    assert (tmp_path / "runs" / "toy" / "1-train.partial" / "training" / "checkpoint.safetensors").is_file()


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["quantize", "bench"])
@pytest.mark.parametrize(
    ("option", "value"), [("--root", "photos"), ("--size", "8"), ("--resize", "8"), ("--holdout", "8")]
)
def test_options_of_the_data_need_data(
    verb: str, option: str, value: str, refused: Callable[..., str], toy_model: Path
) -> None:
    assert refused(verb, toy_model, option, value) == (
        f"Cannot use {option} without --data: say what kind of data it is, for example --data folder."
    )


@pytest.mark.parametrize("words", [(), ("--data", "digits")])
def test_dynamic_quantization_is_refused_whether_there_are_images_or_not(
    refused: Callable[..., str], toy_model: Path, words: tuple[str, ...]
) -> None:
    assert refused("quantize", toy_model, "--method", "dynamic", *words) == (
        "Cannot quantize dynamically: measuring ranges anew on every image makes convolution networks slower than"
        ' float; leave method out, or write "mse", and they are measured once, on calibration images.'
    )


def test_names_that_keep_nothing_float_are_refused(refused: Callable[..., str], toy_model: Path) -> None:
    words = ("--data", "digits", "--images", "16", "--keep-float")
    assert refused("quantize", toy_model, *words, "Relu") == (
        'Cannot use "Relu" in keep_float: in int8 it is no operator of its own but goes into the output range of conv1;'
        " name that operator instead."
    )
    assert refused("store-weights", toy_model, "--keep-float", "Flatten") == (
        'Cannot use "Flatten" in keep_float: it stays float anyway (it has no weights); take it out of keep_float.'
    )


def test_store_weights_prints_what_it_saves_and_what_keeps_its_weights(
    command: Callable[..., Any], toy_model: Path
) -> None:
    ended = command("store-weights", toy_model, "--format", "float16", "--keep-float", "linear")
    assert (ended.code, ended.err) == (0, "")
    path = toy_model.with_suffix(".float16-weights.onnx")
    printed = " ".join(ended.out.split())
    assert printed.startswith(f"{path}: 6 of 8 weights stored as float16, the file is 0.")
    assert "this helps where files are sent or stored" in printed
    assert "conv1 Conv it has fewer than 256 weights" in printed
    assert "linear Gemm asked to stay float" in printed
    as_json = json.loads(command("store-weights", toy_model, "--json").out)
    assert as_json["file"] == str(toy_model.with_suffix(".int8-weights.onnx"))
    assert as_json["decoded_each_run"] == 0


def test_store_weights_takes_no_option_that_would_do_nothing(refused: Callable[..., str], toy_model: Path) -> None:
    assert refused("store-weights", toy_model, "-o", toy_model).startswith(
        f"Cannot write the int8 model over {toy_model}"
    )
    assert refused("store-weights", toy_model, "--format", "int2") == (
        'Unknown format of weights "int2": did you mean "int8"?'
    )


def test_pack_says_how_small_and_unpack_gives_the_same_bytes(
    command: Callable[..., Any], refused: Callable[..., str], toy_model: Path
) -> None:
    ended = command("pack", toy_model)
    packed = toy_model.with_suffix(".elp")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{packed}: {toy_model.stat().st_size} bytes packed into {packed.stat().st_size} (0.")
    before = toy_model.read_bytes()
    assert command("unpack", packed).out.startswith(f"{toy_model}: {packed.stat().st_size} bytes unpacked into ")
    assert toy_model.read_bytes() == before
    as_json = json.loads(command("pack", toy_model, "--bits", "4", "--json").out)
    shared = toy_model.with_suffix(".4-bit.elp")
    assert as_json["file"] == str(shared)
    assert as_json["shared"]["bits"] == 4
    assert shared.stat().st_size < 0.5 * packed.stat().st_size
    as_json = json.loads(command("unpack", shared, "--json").out)
    assert as_json["file"] == str(toy_model.with_suffix(".4-bit.onnx"))
    assert refused("unpack", shared, "-o", shared).startswith(
        f"Cannot write over {shared}: it is the file that is read"
    )
    assert refused("pack", toy_model, "-o", toy_model).startswith(f"Cannot write over {toy_model}")
    toy_model.write_bytes(b"mine")
    assert refused("unpack", packed) == (
        f"Cannot unpack to {toy_model}: another file is there that differs; name a file of your own with --output."
    )
    packed.write_bytes(packed.read_bytes()[:-1])
    assert "its checksum does not match" in refused("unpack", packed)


def test_quantize_needs_data(refused: Callable[..., str], toy_model: Path) -> None:
    assert refused("quantize", toy_model) == (
        "Cannot quantize without images to calibrate on: name them with --data and --root, for example"
        " --data folder --root photos --size 224 --holdout 64."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--mean", "a"), "Cannot use --mean = a: it must be numbers with commas between, as in 0.5,0.5,0.5."),
        (("--std", ""), "Cannot use --std = : it must be numbers with commas between, as in 0.5,0.5,0.5."),
        (
            ("--mean", "0.1,0.2"),
            "Cannot normalise by mean = [0.1, 0.2]: give 1 finite values, one per channel, and a std above 0.",
        ),
        (("--std", "0"), "Cannot normalise by std = [0]: give 1 finite values, one per channel, and a std above 0."),
        (
            ("--mean", "nan"),
            "Cannot normalise by mean = [nan]: give 1 finite values, one per channel, and a std above 0.",
        ),
        (("--size", "0"), "Cannot use size = 0: it must be 1 or more pixels."),
        (("--size", "8", "--resize", "4"), "Cannot resize images to 4 and cut out 8: give a size that is not larger."),
    ],
)
@pytest.mark.parametrize("verb", ["quantize", "bench"])
def test_figures_that_cannot_be_used(
    verb: str, words: tuple[str, ...], sentence: str, refused: Callable[..., str], toy_model: Path
) -> None:
    assert refused(verb, toy_model, "--data", "digits", *words) == sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seconds", "0"), "Cannot measure with seconds = 0.0: it must be above 0."),
        (("--seconds", "nan"), "Cannot measure with seconds = nan: it must be a finite number."),
        (("--batch", "0"), "Cannot measure with batch = 0: it must be 1 or more."),
        (("--runtime", "onxruntime"), 'Unknown runtime "onxruntime": did you mean "onnxruntime"?'),
    ],
)
def test_settings_that_cannot_be_measured_with(
    words: tuple[str, ...], sentence: str, refused: Callable[..., str], toy_model: Path
) -> None:
    assert refused("bench", toy_model, *words) == sentence


def test_more_threads_than_cores_are_refused(refused: Callable[..., str], toy_model: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    for threads in (0, cores + 1):
        assert refused("bench", toy_model, "--threads", threads) == (
            f"Cannot measure with {threads} threads on {cores} processor cores: threads would wait for each "
            f"other; ask for between 1 and {cores} threads."
        )
