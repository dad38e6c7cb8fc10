"""Bytes of ONNX files as they are, zipped, by zstd, by xz and packed. Sizes are exact and the same on every machine.

    EDGELATHE_TEST_DATA=DATA python -m tests.benchmarks.packed_size --networks resnet20 resnet56 [--bits 8 6 5 4]

Of each network: the float file, float with shared weights, int8, and the same with the smallest half of all weights set
to zero (not trained again). A second table has the entropy-coded tensors alone, against the codings of Deep Compression
(Han et al. 2016): Huffman codes of all values, and Huffman codes of the values that are not zero and of the run lengths
of zeros between them.
"""

from __future__ import annotations

import argparse
import heapq
import io
import lzma
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from edgelathe.bench.accuracy import predict_logits
from edgelathe.compress.pack.onnx_tensors import find_tensors
from edgelathe.compress.pack.pack import SMALLEST, Packed, pack_bytes
from edgelathe.compress.pack.share_weights import share_weights
from edgelathe.compress.pack.symbols import to_symbols
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.data import Split, load_data
from edgelathe.imagesequence import ImageSequence
from edgelathe.models.onnx_file import load_onnx
from onnx import numpy_helper

from .command import data_folder, end_well, say
from .floatfile import write_float
from .images import TRAINING, load_images
from .networks import NETWORKS, Network
from .table import markdown_table

SEED = 0
CALIBRATION = 64
KINDS = ("bytes", "nibbles", "codebook")
"""Codings that hold all values of a tensor as symbols."""
LONGEST_RUN = 255
"""Eight bits, as published for convolutions; a longer run goes on behind a zero of its own."""


@dataclass(frozen=True)
class Made:
    name: str
    file: bytes
    top1: float
    """Share of the network's test images that the file classifies right."""


def main() -> int:
    asked = _arguments()
    whole, weights = [], []
    for made in _files(asked.networks, asked.bits, data_folder()):
        say(made.name)
        packed = pack_bytes(made.file)[1]
        sizes = (len(made.file), _zip(made.file), _zstd(made.file), _xz(made.file), packed.bytes_after)
        whole.append([made.name, f"{made.top1:.1%}", *map(_grouped, sizes)])
        counts = _weights(made.file, packed)
        if counts[0]:
            weights.append([made.name, *map(_grouped, counts)])
    print(markdown_table(("network", "top-1", "file", "zip -9", "zstd -22", "xz -9e", "packed"), whole))  # noqa: T201
    headings = ("network", "weights", "zero, %", "Huffman", "Huffman of runs", "packed")
    print("\n" + markdown_table(headings, weights))  # noqa: T201
    return 0


def _files(networks: list[str], bits: list[int], data: Path) -> Iterator[Made]:
    with TemporaryDirectory() as folder:
        for name in networks:
            network, path = NETWORKS[name], Path(folder) / f"{name}.onnx"
            write_float(network, data, path, SEED)
            calibration, test = _images(network, data)

            def made(kind: str, path: Path, name: str = name, network: Network = network, test: Split = test) -> Made:
                right = predict_logits(path, test.x, network.preprocess).argmax(axis=1) == test.y
                return Made(f"{name}, {kind}", path.read_bytes(), float(right.mean()))

            sparse = Path(folder) / f"{name}.sparse.onnx"
            sparse.write_bytes(half_zero(path))
            for kind, source in (("float", path), ("half zero", sparse)):
                yield made(kind, source)
                output = Path(folder) / "made.onnx"
                images = ImageSequence(calibration.x, network.preprocess)
                quantize(source, output, images, pixels=(network.preprocess.mean, network.preprocess.std))
                yield made(f"{kind}, int8".replace("float, ", ""), output)
                for number in bits:
                    share_weights(source, output, bits=number)
                    yield made(f"{kind}, {number} bits shared".replace("float, ", ""), output)


def _images(network: Network, data: Path) -> tuple[Split, Split]:
    if network.images == "cifar10":
        found = load_data("cifar10", data / "cifar10")
        assert found.train is not None
        return found.train[:TRAINING].take(CALIBRATION, SEED), found.test
    images = load_images(network, data, CALIBRATION, SEED)
    assert images.top1 is not None
    return images.calibration, images.top1.images


def half_zero(path: Path) -> bytes:
    """The model at `path` with the smaller half of all its weights, those of all layers compared, set to zero."""
    model = load_onnx(path)
    stored = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1 and tensor.data_type == tensor.FLOAT]
    arrays = [numpy_helper.to_array(tensor) for tensor in stored]
    middle = np.median(np.concatenate([np.abs(array).ravel() for array in arrays]))
    for tensor, array in zip(stored, arrays, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.where(np.abs(array) < middle, 0, array), tensor.name))
    return model.SerializeToString(deterministic=True)


def _weights(file: bytes, packed: Packed) -> tuple[int, float, float, float, int]:
    """Weights that were entropy-coded, how many are zero, and bytes of three codings with codebooks and tables."""
    places = [place for place in find_tensors(file) if place.stop - place.start >= SMALLEST]
    coded = [(place, made) for place, made in zip(places, packed.tensors, strict=True) if made.coding in KINDS]
    number = zeros = 0
    plain = runs = 0.0
    for place, _ in coded:
        found = to_symbols(file[place.start : place.stop], place.shape, place.type)
        assert found is not None
        symbols = found.values.ravel()
        zero = int(np.argmin(np.abs(found.heights)))
        number, zeros = number + symbols.size, zeros + int((symbols == zero).sum())
        plain += len(found.codebook) + huffman_bytes(symbols)
        runs += len(found.codebook) + sum(map(huffman_bytes, run_lengths(symbols, zero)))
    return number, 100 * zeros / max(number, 1), plain, runs, sum(made.bytes_after for _, made in coded)


def huffman_bytes(symbols: np.ndarray) -> float:
    """Bytes of a Huffman code of `symbols` with a table of one byte per symbol that occurs."""
    counts = np.bincount(symbols)
    order = count()  # equal counts are never decided by what follows them
    heap = [(int(number), next(order)) for number in counts[counts > 0]]
    heapq.heapify(heap)
    bits = len(symbols) if len(heap) == 1 else 0
    while len(heap) > 1:
        merged = heapq.heappop(heap)[0] + heapq.heappop(heap)[0]
        bits += merged
        heapq.heappush(heap, (merged, next(order)))
    return bits / 8 + int((counts > 0).sum())


def run_lengths(symbols: np.ndarray, zero: int) -> tuple[np.ndarray, np.ndarray]:
    """The symbols that are not `zero`, and how many of it precede each; `zero` itself ends a run of LONGEST_RUN."""
    places = np.flatnonzero(symbols != zero)
    runs = np.diff(places, prepend=-1) - 1
    fillers = runs // (LONGEST_RUN + 1)
    ends = np.cumsum(fillers + 1) - 1
    values, lengths = np.full(int((fillers + 1).sum()), zero), np.full(int((fillers + 1).sum()), LONGEST_RUN)
    values[ends], lengths[ends] = symbols[places], runs % (LONGEST_RUN + 1)
    return values, lengths


def _zip(file: bytes) -> int:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model.onnx", file)
    return len(target.getvalue())


def _zstd(file: bytes) -> int | None:
    if shutil.which("zstd") is None:
        return None
    return len(subprocess.run(["zstd", "--ultra", "-22", "-c"], input=file, capture_output=True, check=True).stdout)


def _xz(file: bytes) -> int:
    return len(lzma.compress(file, preset=9 | lzma.PRESET_EXTREME))


def _grouped(number: float | None) -> str:
    return "not installed" if number is None else f"{number:,.0f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = [name for name, network in NETWORKS.items() if network.trained]
    parser.add_argument("--networks", nargs="+", choices=trained, default=["resnet20"])
    parser.add_argument("--bits", nargs="*", type=int, default=[6, 5, 4], help="of shared weights")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(end_well(main))
