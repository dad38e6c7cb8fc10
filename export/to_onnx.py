"""PyTorch -> ONNX: a network in eval mode becomes one self-contained, byte-deterministic file."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import nn

from .. import errors, files
from ..models.attention import settle_biases
from ..models.exitnames import MAIN
from ..models.exits import NetworkWithExits
from ..version import __version__
from .canonical import canonicalise, strip
from .metadata import check_properties

OPSET = 18
"""The opset PyTorch's exporter is written in: any other takes a conversion of the finished graph. With the
lowest IR version that may carry it (8) the file opens in runtimes of early 2023 (tried: onnxruntime 1.15.0).
Later opsets give a convolutional classifier nothing but one Gelu operator for five small ones (20)."""

OPSETS = range(18, 24)

INPUT, BATCH = "input", "batch"


def export_onnx(
    model: nn.Module,
    example: torch.Tensor,
    path: Path | str,
    *,
    opset: int = OPSET,
    dynamic_batch: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `model` as ONNX: input "input" float32 [batch, C, H, W], output "logits" [batch, ...].

    A `NetworkWithExits` has an output for each exit as well, named after the layer that it reads (models/exits.py).

    `example` is a float32 tensor [N, C, H, W]; its values do not matter. With `dynamic_batch` the file takes
    any batch size, else exactly N. A copy of the model is exported, on the CPU and in eval mode: batch
    normalization that follows a convolution or linear layer is folded into it, dropout and identity vanish.
    `metadata` becomes the file's metadata (see metadata.py). The same network gives the same bytes.

    Raises EdgeLatheError when the example or the opset is unsuitable, when the network cannot be traced (it
    fixes its batch size, branches on values, or uses an operation that ONNX lacks), returns anything but one
    float32 tensor with the batch first, holds NaN or infinite parameters, or when the file cannot be written.
    """
    properties = check_properties(metadata or {})
    if opset not in OPSETS:
        raise errors.inputs.impossible_setting("opset", opset, f"from {OPSETS[0]} to {OPSETS[-1]}")
    if example.dtype != torch.float32 or example.ndim != 4 or 0 in example.shape:
        raise errors.export.unsuitable_example(str(example.dtype).removeprefix("torch."), tuple(example.shape))
    network = _prepare(model)
    images = example.detach().cpu().contiguous()
    # The exporter takes a size of 0 or 1 for a constant, so a free batch axis is traced with two images.
    images = images[:1].repeat(2, 1, 1, 1) if dynamic_batch else images
    outputs = network.names if isinstance(network, NetworkWithExits) else (MAIN,)
    _check_outputs(network, images, len(outputs))
    exported = _trace(network, images, outputs, opset, dynamic_batch)
    canonicalise(exported, within="network" if isinstance(network, NetworkWithExits) else "")
    proto = _to_proto(exported, opset, dynamic_batch, properties)
    files.write_atomic(Path(path), proto.SerializeToString(deterministic=True), "the ONNX model")


def _prepare(model: nn.Module) -> nn.Module:
    # A channels-last network, as training leaves it, must not give another file.
    network = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise errors.export.parameters_not_finite(name)
    settle_biases(network)
    return network.requires_grad_(False)


def _check_outputs(network: nn.Module, images: torch.Tensor, count: int) -> None:
    try:
        with torch.no_grad():
            found = network(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as reason:
        raise errors.training.network_rejects_images(tuple(images.shape[1:]), _first_line(reason)) from reason
    for output in found if count > 1 else [found]:
        if not isinstance(output, torch.Tensor):
            raise errors.export.unsuitable_output(f"a {type(output).__name__}")
        if output.dtype != torch.float32 or output.ndim < 2 or output.shape[0] != images.shape[0]:
            dtype = str(output.dtype).removeprefix("torch.")
            raise errors.export.unsuitable_output(f"a {dtype} tensor of shape {list(output.shape)}")


def _trace(
    network: nn.Module, images: torch.Tensor, outputs: Sequence[str], opset: int, dynamic_batch: bool
) -> ir.Model:
    shapes = ({0: torch.export.Dim(BATCH)},) if dynamic_batch else None
    try:
        with _quiet():
            # Traced here instead of inside torch.onnx.export: that one tries again with looser rules when the
            # network fixes its batch size, and then writes a file for batch 2 without a word.
            program = torch.export.export(network, (images,), dynamic_shapes=shapes, strict=False)
            converted = torch.onnx.export(
                program,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamo=True,
                verbose=False,
            )
    except Exception as reason:  # the exporter raises whatever its many parts raise, a user's forward among them
        message = str(reason)
        if dynamic_batch and f"Constraints violated ({BATCH})" in message:
            raise errors.export.network_fixes_batch() from reason
        unknown = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", message)
        why = f"ONNX has no counterpart of {unknown[1]}" if unknown else _first_line(reason)
        raise errors.export.cannot_export(why) from reason
    assert converted is not None
    for node in converted.model.graph.all_nodes():
        if node.domain:
            raise errors.export.cannot_export(f"{node.domain}.{node.op_type} is not an operator of the ONNX standard")
    return converted.model


def _to_proto(model: ir.Model, opset: int, dynamic_batch: bool, properties: Mapping[str, str]) -> onnx.ModelProto:
    _name_batch(model.graph, dynamic_batch)
    model.producer_name, model.producer_version = "edgelathe", __version__
    model.graph.name = "network"
    for domain in [domain for domain in model.opset_imports if domain]:
        del model.opset_imports[domain]
    model.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    proto = ir.to_proto(model)
    strip(proto)
    constants = {tensor.name for tensor in proto.graph.initializer}
    intermediate = [value for value in proto.graph.value_info if value.name not in constants]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(intermediate)
    for key in sorted(properties):
        proto.metadata_props.add(key=key, value=properties[key])
    size = proto.ByteSize()
    if size >= onnx.checker.MAXIMUM_PROTOBUF:
        raise errors.export.cannot_export(f"the file would take {size / 2**30:.1f} GiB and ONNX files end at 2 GiB")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _name_batch(graph: ir.Graph, dynamic_batch: bool) -> None:
    """Call the exporter's batch symbol (s31, s77, ...) "batch" in every shape."""
    shape = graph.inputs[0].shape
    assert shape is not None
    if not dynamic_batch:
        return
    symbol = shape[0]
    results = [output.shape for output in graph.outputs]
    if isinstance(symbol, int) or any(result is None or result[0] != symbol for result in results):
        raise errors.export.network_fixes_batch()
    pattern = re.compile(rf"\b{re.escape(str(symbol))}\b")
    values = [*graph.inputs, *(value for node in graph.all_nodes() for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) else pattern.sub(BATCH, str(dim)) for dim in value.shape]
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, advice and deprecation notes off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # Some of its notes are printed, not logged.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(reason: Exception) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(reason).__name__
