"""Which networks walk the whole road: pruned to half the MACs, rebuilt, exported, compared, quantized.

    python -m tests.benchmarks.coverage --json coverage.json --markdown docs/coverage.md
    python -m tests.benchmarks.coverage --json coverage.json --networks cifar_resnet20 torchvision:vgg11

Every classifier that torchvision lists and every network of the zoo, with random weights, one after the other, each in
a process of its own that is stopped at its limits. A network whose record is in the JSON file is not run again, so that
the same command continues.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgelathe.bench.units import in_percent
from edgelathe.files import write_atomic
from pydantic import TypeAdapter

from .command import end_well, portable_command, say
from .cost import ToolError, run_measured
from .cover import CALIBRATION, JUDGED, POINTS, SIDES, TOLERANCE, Covered
from .table import markdown_table

HEADINGS = (
    "network", "image", "parameters", "MACs", "kept", "against uncut", "rebuilt", "ONNX", "int8 convs", "int8 MACs",
    "SNR",
)  # fmt: skip
USUAL = ("its channels are the network's outputs", "the target is met without cutting it")
NOT_RUN = "not run"
RECORDS = TypeAdapter(dict[str, Covered])

INTRODUCTION = f"""# Coverage: which networks walk the whole road

Every classifier that torchvision lists and every network of the zoo, with random weights (seeded; norms, biases and
scales drawn anew, and each layer scaled so that signals neither fade nor explode), on images of the first of
{", ".join(map(str, SIDES))} pixels that it accepts:

1. pruned to half the MACs by `l1`, all groups by the same share (`global` where the widths are too coarse for that and
   the MACs would end more than {POINTS * 100:.0f} points below);
2. *against uncut*: its outputs against those of the whole network in which nothing reads the channels that went (norms
   over channels normalise over those that stay), largest difference as a share of the outputs' spread;
3. *rebuilt*: saved and rebuilt from `structure.json` and `model.safetensors`, outputs equal bit for bit;
4. *ONNX*: exported, ONNX Runtime against PyTorch, largest difference as a share of the outputs' spread, at most
   {TOLERANCE:g};
5. *int8*: quantized with the defaults on {CALIBRATION} images; convolutions and MACs that ONNX Runtime runs in int8,
   and *SNR*, power of the float outputs over that of their error on {JUDGED} other images. Random weights say whether
   the file works, not how accurate a trained network would be.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.coverage",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--json", type=Path, required=True, help="the records; continued where it exists")
    add("--markdown", type=Path, help="write the table there; to standard output otherwise")
    add("--networks", nargs="+", metavar="NAME", help='a zoo name or "torchvision:<name>"; all, smallest first')
    add("--again", action="store_true", help="run networks again that have a record")
    add("--table-only", action="store_true", help="run nothing")
    add("--keep", type=float, default=0.5, help="share of the MACs")
    add("--gigabytes", type=float, default=6.0, help="memory at which a network is stopped")
    add("--minutes", type=float, default=30.0, help="time after which a network is stopped")
    add("--seed", type=int, default=0, help="of weights and images")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace) -> int:
    records = RECORDS.validate_json(asked.json.read_bytes()) if asked.json.is_file() else {}
    networks = asked.networks or all_networks()
    for number, network in enumerate(networks, start=1):
        if asked.table_only or (network in records and not asked.again):
            continue
        say(f"{network} ({number} of {len(networks)})")
        records[network] = run_one(network, asked)
        say(f"  {records[network].failed or 'passed'}")
        write_atomic(asked.json, RECORDS.dump_json(records, indent=1, exclude_defaults=True) + b"\n", "the records")
    missing = [name for name in all_networks() if name not in records]
    table = as_markdown([records[name] for name in all_networks() if name in records], missing, asked)
    if asked.markdown:
        write_atomic(asked.markdown, table, "the table")
    else:
        sys.stdout.write(table)
    return 0 if all(records[name].passed for name in networks if name in records) else 1


def all_networks() -> list[str]:
    """The zoo, then torchvision's classifiers, by family."""
    import torchvision
    from edgelathe.models.zoo import NETWORKS

    def by_number(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]

    listed = torchvision.models.list_models(module=torchvision.models)
    return [*NETWORKS, *(f"torchvision:{name}" for name in sorted(listed, key=by_number))]


def run_one(network: str, asked: argparse.Namespace) -> Covered:
    """The record that a process of its own makes; or the reason why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        settings = ["--keep", str(asked.keep), "--seed", str(asked.seed)]
        command = [sys.executable, "-m", f"{__package__}.cover", network, str(record), *settings]
        try:
            cost = run_measured(
                command,
                Path(folder) / "log",
                limit_seconds=60 * asked.minutes,
                limit_bytes=int(1e9 * asked.gigabytes),
            )
        except ToolError as reason:
            return Covered(network=network, failed=f"{NOT_RUN}: {reason}")
        found = Covered.model_validate_json(record.read_bytes())
    return found.model_copy(update={"seconds": round(cost.seconds, 1), "peak_bytes": cost.peak_bytes})


def as_markdown(records: Sequence[Covered], missing: Sequence[str], asked: argparse.Namespace) -> str:
    passed = sum(record.passed for record in records)
    summary = f"{passed} of {len(records)} networks walk the whole road."
    if missing:
        summary += f" Not run yet: {', '.join(map(short, missing))}."
    notes = [note for record in records for note in _notes(record)]
    command = portable_command(f"{__package__}.coverage".removeprefix("edgelathe."), ["--json", str(asked.json)])
    parts = [INTRODUCTION, summary, markdown_table(HEADINGS, [_row(record) for record in records])]
    if notes:
        parts.append("Left alone, beside the outputs of each network, and refused:")
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join([part.strip() for part in (*parts, f"Made by `{command}`, seed {asked.seed}.")]) + "\n"


def _row(record: Covered) -> list[str]:
    def shown(value: float | None, text: str) -> str:
        return "" if value is None else text.format(value)

    convolutions = f"{record.int8_convolutions} / {record.convolutions}" if record.convolutions is not None else ""
    scope = "" if record.scope in (None, "uniform") else f" ({record.scope})"
    return [
        short(record.network),
        shown(record.side, "{}"),
        shown(record.parameters, "{:,}"),
        shown(record.macs, "{:,}"),
        shown(record.kept_macs, "{:.1%}") + scope,
        shown(record.difference, "{:.0e}"),
        "" if record.rebuilt is None else "equal" if record.rebuilt else "not equal",
        shown(record.parity, "{:.0e}"),
        convolutions,
        "" if record.int8_macs is None else in_percent(record.int8_macs),
        shown(record.snr_db, "{:.1f} dB") if not record.failed else _outcome(record.failed),
    ]


def _outcome(failed: str) -> str:
    return NOT_RUN if failed.startswith(NOT_RUN) else "refused"


def _notes(record: Covered) -> list[str]:
    """Why the road ended, and why groups of channels were left alone, alike ones together."""
    alike = Counter(generic(reason) for reason in record.left.values() if reason not in USUAL)
    notes = [f"{count} of {record.groups} groups of channels: {reason}" for reason, count in alike.most_common()]
    ended = [record.failed] if record.failed else []
    return [f"{short(record.network)}: {'; '.join([*ended, *notes])}"] if ended or notes else []


def generic(reason: str) -> str:
    """A reason without the names and numbers in it."""
    without_details = re.sub(r" \(.*\)$", "", reason)
    named = re.sub(r"\b\w+(?:\.\w+)+", "a module", without_details)
    return re.sub(r"\b(enter|leave) (?!a module)\w+", r"\1 a module", named)


def short(network: str) -> str:
    return network.removeprefix("torchvision:")


if __name__ == "__main__":
    sys.exit(end_well(lambda: run(parse(sys.argv[1:]))))
