"""The float ONNX file of a network, which every tool starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgelathe import errors

from .images import random_cuts, whole_sample
from .networks import Network

SETTLING = 32
"""Images that the batch norms of random weights are settled on."""


def write_float(network: Network, data: Path, path: Path, seed: int) -> None:
    """Write the float ONNX file of `network` to `path`; `data` is the folder of test data.

    Raises EdgeLatheError for weights that are not there or do not fit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if network.source.endswith(".onnx"):
        if not (data / network.source).is_file():
            raise errors.inputs.missing_file("the network", data / network.source)
        shutil.copyfile(data / network.source, path)
        return
    import torch  # only for what must be exported: a finished benchmark continues without it
    from edgelathe.compress.batchnorm import reestimate_batch_norm
    from edgelathe.data import Dataset
    from edgelathe.export.metadata import describe_model
    from edgelathe.export.to_onnx import export_onnx
    from edgelathe.models.weights import load_weights
    from edgelathe.models.zoo import build

    torch.manual_seed(seed)
    model = build(network.source, num_classes=network.classes, in_channels=3, **network.arguments)
    if network.weights is not None:
        load_weights(model, data / network.weights)
    else:
        # With the statistics it is born with, EfficientNet's activations fade from layer to layer until histograms
        # of them fail and float arithmetic meets denormal numbers.
        cuts = random_cuts(whole_sample(data).test, SETTLING, network.side, seed)
        settling = Dataset("settling", cuts, cuts, (), network.preprocess)
        reestimate_batch_norm(model, settling, network.preprocess, images=SETTLING, batch=SETTLING, seed=seed)
    metadata = describe_model(mean=network.preprocess.mean, std=network.preprocess.std)
    export_onnx(model, torch.zeros(1, 3, network.side, network.side), path, metadata=metadata)


def describe(network: Network, seed: int) -> str:
    """One sentence on the weights."""
    if network.weights is not None:
        return f"published weights {Path(network.weights).name}"
    return (
        f"{network.source} with random weights (seed {seed}, batch norms settled on {SETTLING} images): latency, size, "
        "time and memory only"
    )
