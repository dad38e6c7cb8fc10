from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.child import Child, choose_cores
from edgelathe.errors import EdgeLatheError

FORBIDDEN = {
    "torch",
    "torchvision",
    "onnx",
    "pydantic",
    "matplotlib",
    "sklearn",
    "scipy",
    "PIL",
    "rich",
    "psutil",
}


def start(path: Path) -> Child:
    return Child(path, runtime="onnxruntime", cores=choose_cores(1, None))


def test_a_workers_memory_is_the_runtimes(resnet_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    with start(resnet_file(8, 4)) as child:
        child.load(threads=1, batch=1, seed=0)
        child.burst(2)
        loaded = {name.partition(".")[0] for name in child.modules()}
        before = child.started()["before_load"]
    assert not loaded & FORBIDDEN
    assert {"numpy", "onnxruntime", "edgelathe"} <= loaded
    bare = "import onnxruntime; print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    done = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True)
    runtime = int(done.stdout.split()[1]) * 1024
    with capsys.disabled():
        figures = f"{before / 1e6:.1f} MB, of which {runtime / 1e6:.1f} MB Python and the runtime"
        print(f"\n  worker before load: {figures}")  # noqa: T201
    assert before < runtime + 8e6


def test_a_worker_answers_with_its_figures(resnet_file: Callable[..., Path]) -> None:
    with start(resnet_file(8, 4)) as child:
        loaded = child.load(threads=1, batch=1, seed=0)
        burst = child.burst(7)
        now, peak = child.memory()
        before = child.started()["before_load"]
    assert len(burst.wall) == len(burst.held) == 7
    assert all(10_000 < ns < 1_000_000_000 for ns in burst.wall)
    assert all(0 < held <= wall + 50_000 for held, wall in zip(burst.held, burst.wall, strict=True))
    assert 0 < burst.busy <= 1
    assert loaded["load_ms"] > 0
    assert loaded["first_ms"] > 0
    assert before < loaded["after_load"] <= loaded["after_first"] <= peak
    assert now <= peak


def test_a_worker_is_pinned(resnet_file: Callable[..., Path]) -> None:
    core = choose_cores(1, None)
    with start(resnet_file(8, 4)) as child:
        child.load(threads=1, batch=1, seed=0)
        status = Path(f"/proc/{child._process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
    assert line.split()[1] == str(core[0])


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x0aabcdefgh" * 20)
    with start(path) as child, pytest.raises(EdgeLatheError) as caught:
        child.load(threads=1, batch=1, seed=0)
    message = str(caught.value)
    assert message.startswith(f'The runtime "onnxruntime" cannot run the model {path}: ')
    assert message.endswith("check that the file is whole and that this version of the runtime knows its operators.")
    assert "\n" not in message


def test_a_missing_file_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    with pytest.raises(EdgeLatheError) as caught:
        start(path)
    assert str(caught.value) == f"Cannot read the model {path}: there is no such file; check the path."


def test_a_killed_worker_is_reported(resnet_file: Callable[..., Path]) -> None:
    with start(resnet_file(8, 4)) as child:
        child.started()
        child._process.kill()
        child._process.wait()
        with pytest.raises(EdgeLatheError) as caught:
            child.memory()
    assert str(caught.value) == (
        f'The process that ran the model {child.path} under "onnxruntime" ended with code -9; '
        "run again with more free memory, or try the file in the runtime alone."
    )


def test_a_worker_ends_with_its_parent(resnet_file: Callable[..., Path]) -> None:
    with start(resnet_file(8, 4)) as child:
        process = child._process
        child.started()
        assert process.poll() is None
    assert process.returncode == 0


def test_an_interrupted_measurement_leaves_no_process(resnet_file: Callable[..., Path]) -> None:
    with pytest.raises(KeyboardInterrupt), start(resnet_file(8, 4)) as child:
        process = child._process
        raise KeyboardInterrupt
    assert process.returncode == -9


def test_files_in_the_users_folder_do_not_become_the_workers_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet_file: Callable[..., Path]
) -> None:
    for name in ("numpy", "onnxruntime", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    with start(resnet_file(8, 4)) as child:
        assert child.started()["version"] == __import__("onnxruntime").__version__


def test_a_relative_path_is_found(monkeypatch: pytest.MonkeyPatch, resnet_file: Callable[..., Path]) -> None:
    path = resnet_file(8, 4)
    monkeypatch.chdir(path.parent)
    with start(Path(path.name)) as child:
        assert child.load(threads=1, batch=1, seed=0)["load_ms"] > 0


def test_chatter_on_standard_output_does_not_tear_the_protocol() -> None:
    code = (
        "import os, sys, edgelathe.bench.worker as worker\n"
        "class Loud(worker.Bench):\n"
        "    def memory(self):\n"
        "        print('chatter'); os.write(1, b'more chatter\\n')\n"
        "        return super().memory()\n"
        "worker.Bench = Loud\n"
        "worker.main()\n"
    )
    asked = '{"do": "memory"}\n' * 2
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(answer) for answer in answers] == [["peak", "resident"]] * 2
    assert "more chatter" in done.stderr


def test_an_unknown_runtime_is_named(resnet_file: Callable[..., Path]) -> None:
    with pytest.raises(EdgeLatheError) as caught, Child(resnet_file(8, 4), runtime="onnxruntme", cores=()) as child:
        child.started()
    assert str(caught.value) == 'Unknown runtime "onnxruntme": did you mean "onnxruntime"?'


def test_cores_are_checked() -> None:
    available = sorted(os.sched_getaffinity(0))
    assert choose_cores(1, None) == (available[-1],)
    assert choose_cores(1, [available[0]]) == (available[0],)
    with pytest.raises(EdgeLatheError, match=r"Cannot pin a measurement to the processor cores 4096: "):
        choose_cores(1, [4096])
    for threads in (0, len(available) + 1):
        with pytest.raises(EdgeLatheError) as caught:
            choose_cores(threads, None)
        assert f"with {threads} threads on {len(available)} processor cores" in str(caught.value)
