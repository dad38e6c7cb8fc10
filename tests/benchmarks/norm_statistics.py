"""What re-estimated batch norms make of an unpruned network, by how the images are augmented.

    python -m tests.benchmarks.norm_statistics

Run it from the root of the repository with the folder of test data in EDGELATHE_TEST_DATA.
"""

from __future__ import annotations

import copy
import sys

import torch
from edgelathe.compress.augment import AUGMENTS
from edgelathe.compress.batchnorm import likeliest_augment, reestimate_batch_norm
from edgelathe.compress.evaluate import evaluate
from edgelathe.data import load_data
from edgelathe.models.weights import load_weights
from edgelathe.models.zoo import build

from .command import data_folder, end_well
from .networks import NETWORKS


def run() -> int:
    data, network = data_folder(), NETWORKS["resnet20"]
    assert network.weights is not None
    images = load_data("cifar10", data / "cifar10")
    model = build(network.source, num_classes=network.classes)
    load_weights(model, data / network.weights)
    model.eval()

    def right(judged: torch.nn.Module) -> int:
        return evaluate(judged, images.test, network.preprocess)

    total = len(images.test)
    sys.stdout.write(f"own statistics: {right(model)} of {total}\n")
    for kind in AUGMENTS:
        again = copy.deepcopy(model)
        reestimate_batch_norm(again, images, network.preprocess, augmented=kind)
        sys.stdout.write(f"measured again, augmented by {kind}: {right(again)} of {total}\n")
    sys.stdout.write(f"likeliest: {likeliest_augment(model, images, network.preprocess)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(end_well(run))
