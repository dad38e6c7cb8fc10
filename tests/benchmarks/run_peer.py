"""Quantize one ONNX file with one peer, the way its documentation says.

    python run_peer.py PEER MODEL OUTPUT IMAGES --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5
    python run_peer.py --versions PACKAGE...      installed versions as JSON, without importing them

Imports the peer and nothing of EdgeLathe, so that it runs in any environment that holds the peer, and its
process holds nothing else. IMAGES is a folder of PNG files; they are read one by one as the peer asks for them,
which is the most sparing way: a peer's memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Inputs = Iterator[Any]


class Folder:
    """Images of a folder as float32 [1, 3, H, W], normalised; can be gone through many times."""

    def __init__(self, folder: Path, mean: Sequence[float], std: Sequence[float]) -> None:
        self.files = sorted(folder.glob("*.png"))
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Inputs:
        import numpy as np
        from PIL import Image

        for path in self.files:
            with Image.open(path) as image:
                pixels = np.asarray(image, np.float64) / 255
            normal = (pixels - np.array(self.mean)) / np.array(self.std)
            yield np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def onnxruntime_u8s8(method: str, *, hide_torch: bool = False) -> Callable[[Path, Path, Folder], None]:
    """ONNX Runtime's own quantizer with the types that its x86 kernels want, after its own preparation.

    The preparation loads torch where it is installed, and does nothing with it.
    """

    def quantize(model: Path, output: Path, images: Folder) -> None:
        if hide_torch:
            sys.modules["torch"] = None  # type: ignore[assignment]
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        name = onnx.load(model).graph.input[0].name

        class Reader:
            def __init__(self) -> None:
                self.images = iter(images)

            def get_next(self) -> dict[str, Any] | None:
                image = next(self.images, None)
                return None if image is None else {name: image}

        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(model), str(prepared))
            quantize_static(
                str(prepared),
                str(output),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[method],
            )

    return quantize


def nncf(preset: str) -> Callable[[Path, Path, Folder], None]:
    def quantize(model: Path, output: Path, images: Folder) -> None:
        os.environ["NNCF_CI"] = "1"  # sends nothing home
        import onnx
        from nncf import Dataset, QuantizationPreset  # type: ignore[import-not-found, unused-ignore]
        from nncf import quantize as quantize_model

        network = onnx.load(model)
        name = network.graph.input[0].name
        made = quantize_model(
            network,
            Dataset(images, lambda image: {name: image}),
            preset=QuantizationPreset[preset],
            subset_size=len(images),
        )
        onnx.save(made, output)

    return quantize


PEERS: dict[str, Callable[[Path, Path, Folder], None]] = {
    "onnxruntime-minmax": onnxruntime_u8s8("MinMax"),
    "onnxruntime-minmax-lean": onnxruntime_u8s8("MinMax", hide_torch=True),
    "onnxruntime-percentile": onnxruntime_u8s8("Percentile"),
    "nncf": nncf("PERFORMANCE"),
    "nncf-mixed": nncf("MIXED"),
}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions; what is missing is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--versions", nargs="+", metavar="PACKAGE")
    parser.add_argument("peer", nargs="?", choices=PEERS)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("output", nargs="?", type=Path)
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("--mean", nargs=3, type=float)
    parser.add_argument("--std", nargs=3, type=float)
    asked = parser.parse_args()
    if asked.versions:
        print(json.dumps(versions(asked.versions)))  # noqa: T201
    else:
        PEERS[asked.peer](asked.model, asked.output, Folder(asked.images, asked.mean, asked.std))


if __name__ == "__main__":
    main()
