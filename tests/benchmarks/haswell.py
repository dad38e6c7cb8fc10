"""Int8 files on a processor without VNNI: the files of both x86 targets, here and on an emulated Haswell.

    python -m tests.benchmarks.haswell
    python -m tests.benchmarks.haswell --images 8 --network resnet56
    python -m tests.benchmarks.haswell --rules --images 128 --network mobilenet_v1

Prints the signal over quantization noise against the float file, natively and emulated, and what the product says of
each file on that processor. Exit code 1 where a file of x86-avx2 loses a decibel or more, or where a file of x86-vnni
is not warned of. Needs qemu-x86_64-static (Debian's package qemu-user-static); without it nothing is judged and the
exit code is 0. With --rules it emulates nothing and compares the ways to limit weights natively. Run it from the root
of the repository with the folder of test data in EDGELATHE_TEST_DATA.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from edgelathe.compress.quantize.placing.targets import TARGETS
from edgelathe.compress.quantize.quantize import quantize

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import load_images
from .networks import NETWORKS

EMULATOR = "qemu-x86_64-static"
X86 = ("x86-vnni", "x86-avx2")
ALLOWED_LOSS = 1.0
"""Decibels."""
CHILD = """
import json, sys
import numpy as np
from pathlib import Path
from edgelathe.bench.runtimes.onnxruntime import load
model = load(Path(sys.argv[1]), 1)
images = np.load(sys.argv[2])
name = model.inputs[0].name
np.save(sys.argv[3], np.concatenate([model.run({name: images[i : i + 1]})[0] for i in range(len(images))]))
print(json.dumps(model.doubts))
"""


def answers(file: Path, images: Path, folder: Path, emulate: bool) -> tuple[np.ndarray, list[str]]:
    """Logits [N, classes] and what the runtime's adapter doubts, from a process of its own."""
    emulator = [EMULATOR, "-cpu", "Haswell"] if emulate else []
    output = folder / "answers.npy"
    command = [*emulator, sys.executable, "-c", CHILD, str(file), str(images), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.load(output), json.loads(done.stdout.splitlines()[-1])


def decibels(reference: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


@dataclass(frozen=True)
class Setting:
    float_file: Path
    calibration: np.ndarray
    """float32 [N, C, H, W]."""
    judged: Path
    reference: np.ndarray
    """Logits of the float file, [N, classes]."""
    folder: Path


def prepare_setting(name: str, count: int, folder: Path, seed: int) -> Setting:
    network, data = NETWORKS[name], data_folder()
    float_file, judged = folder / "float.onnx", folder / "judged.npy"
    write_float(network, data, float_file, seed)
    images = load_images(network, data, network.calibration, seed)
    assert images.agreement is not None
    np.save(judged, network.preprocess(images.agreement.images.x[:count]))
    reference, _ = answers(float_file, judged, folder, emulate=False)
    say(f"{name}, {count} images of {images.agreement.name}; signal over quantization noise against float, in dB")
    return Setting(float_file, network.preprocess(images.calibration.x), judged, reference, folder)


def compare_rules(setting: Setting) -> int:
    plain = replace(TARGETS["x86-avx2"], pair_max=None)
    rules = {
        "all weights to 127": plain,
        "pairs to 128": TARGETS["x86-avx2"],
        "all weights to 64": replace(plain, weight_max=64),
    }
    for rule, target in rules.items():
        with mock.patch.dict(TARGETS, {"x86-avx2": target}):
            quantize(setting.float_file, setting.folder / "rule.onnx", setting.calibration, target="x86-avx2")
        found, _ = answers(setting.folder / "rule.onnx", setting.judged, setting.folder, emulate=False)
        say(f"{rule:20} {decibels(setting.reference, found):6.1f}")
    return 0


def emulate(setting: Setting) -> int:
    failures = 0
    say(f"{'target':10} {'native':>8} {'Haswell':>8} {'loss':>6}  what the product says on Haswell")
    for target in X86:
        file = setting.folder / f"{target}.onnx"
        quantize(setting.float_file, file, setting.calibration, target=target)
        native, _ = answers(file, setting.judged, setting.folder, emulate=False)
        emulated, doubts = answers(file, setting.judged, setting.folder, emulate=True)
        before, after = decibels(setting.reference, native), decibels(setting.reference, emulated)
        say(f"{target:10} {before:8.1f} {after:8.1f} {before - after:6.1f}  {'; '.join(doubts) or 'nothing'}")
        failures += (not doubts) if target == "x86-vnni" else (before - after >= ALLOWED_LOSS or bool(doubts))
    return 1 if failures else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--images", type=int, default=32, help="judged images; each takes a quarter of a second")
    parser.add_argument("--rules", action="store_true", help="compare the ways to limit weights instead")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.rules:
        with tempfile.TemporaryDirectory() as folder:
            return compare_rules(prepare_setting(given.network, given.images, Path(folder), given.seed))
    if platform.machine().lower() not in ("x86_64", "amd64"):
        say("Skipped: emulating an older x86 processor needs an x86 processor.")
        return 0
    if shutil.which(EMULATOR) is None:
        say(f"Skipped: there is no {EMULATOR}; Debian and Ubuntu have it in the package qemu-user-static.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return emulate(prepare_setting(given.network, given.images, Path(folder), given.seed))


if __name__ == "__main__":
    raise SystemExit(end_well(main))
