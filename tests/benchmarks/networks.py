"""The networks that are quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgelathe.data import Preprocess

IMAGENET = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = Preprocess((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
HALF = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Network:
    source: str
    """A name of the zoo, or an ONNX file in the folder of test data."""
    weights: str | None
    """A file in the folder of test data; None: random, drawn from the seed, so that accuracy means nothing."""
    preprocess: Preprocess
    images: Literal["cifar10", "imagenet-sample"]
    calibration: int
    """Images that ranges come from unless the command says otherwise."""
    classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        return self.weights is not None

    @property
    def side(self) -> int:
        return 32 if self.images == "cifar10" else 224


def _cifar_resnet(depth: int, weights: str) -> Network:
    return Network(f"cifar_resnet{depth}", f"weights/cifar10/{weights}", IMAGENET, "cifar10", 512, 10)


def _untrained(name: str) -> Network:
    return Network(f"torchvision:{name}", None, IMAGENET, "imagenet-sample", 32, 1000)


_MOBILENET_V1 = "weights/imagenet/mobilenet_v1_0.75_224.onnx"

NETWORKS: dict[str, Network] = {
    "resnet20": _cifar_resnet(20, "resnet20-12fca82f.th"),
    "resnet32": _cifar_resnet(32, "resnet32-d509ac18.th"),
    "resnet44": _cifar_resnet(44, "resnet44-014dd654.th"),
    "resnet56": _cifar_resnet(56, "resnet56-4bfd9763.th"),
    "densenet": Network(
        "cifar_densenet",
        "weights/cifar10/densenet-16-16-16-g12.pth",
        CIFAR10,
        "cifar10",
        512,
        10,
        {"growth": 12, "blocks": (16, 16, 16)},
    ),
    "mobilenet_v1": Network(_MOBILENET_V1, _MOBILENET_V1, HALF, "imagenet-sample", 64, 1000),
    "mobilenet_v2": _untrained("mobilenet_v2"),
    "efficientnet_b0": _untrained("efficientnet_b0"),
    "resnet50": _untrained("resnet50"),
    "densenet121": _untrained("densenet121"),
}
