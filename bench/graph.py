"""What can be read off an ONNX file without running it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import sha256_file
from ..models.onnx_file import OnnxFile, read_onnx
from .layout_tricks import counted_taps
from .lifetimes import activation_peak
from .macs import NodeMacs, count_macs
from .parameters import count_bytes, count_ops, count_parameters
from .records import GraphFacts
from .shapes import declared_shape, fix_inputs, graph_inputs, infer_types


def inspect_graph(path: Path, *, input_shapes: Mapping[str, Sequence[int]] | None = None) -> GraphFacts:
    """Facts about the ONNX file at `path`, for one sample: an open batch becomes 1, a fixed one is divided
    out of the MACs.

    `input_shapes` gives the shape of inputs with more than their first dimension open. `file_bytes` includes
    external data files; `sha256` is the file's own, or with external data that of all files' hashes in turn.
    Raises EdgeLatheError for a file that is missing, damaged, refers outside its folder, or has inputs of
    unknown shape.
    """
    file = read_onnx(path)
    model = file.model
    inputs = {value.name: declared_shape(value) for value in graph_inputs(model.graph)}
    outputs = {value.name: declared_shape(value) for value in model.graph.output}
    parameters, stored = count_parameters(model), count_bytes(model)
    batch, meaning = fix_inputs(path, model, input_shapes)
    taps = counted_taps(model.graph)
    types = infer_types(model, meaning)
    nodes, notes = count_macs(model.graph, types, taps)
    peak, peak_notes = activation_peak(model.graph, types)
    if batch > 1:
        peak_notes.append(f"the activation peak is that of the file's fixed batch of {batch}")
    standard = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return GraphFacts(
        file_bytes=sum(part.stat().st_size for part in (path, *file.external)),
        sha256=_hash(file),
        parameters=parameters,
        macs=sum(node.macs for node in nodes) // batch,
        bytes_by_type=stored,
        ops=count_ops(model.graph),
        activation_peak=peak,
        int8_macs=sum(node.macs for node in nodes if node.int8) // batch,
        opset=standard[0] if standard else 0,
        ir_version=model.ir_version,
        inputs=inputs,
        outputs=outputs,
        notes=(*notes, *peak_notes),
    )


def macs_by_node(path: Path, *, input_shapes: Mapping[str, Sequence[int]] | None = None) -> tuple[NodeMacs, ...]:
    """The operators that multiply and accumulate, in order, with their MACs at batch 1 (or the file's fixed
    batch)."""
    file = read_onnx(path)
    _, meaning = fix_inputs(path, file.model, input_shapes)
    taps = counted_taps(file.model.graph)
    return tuple(count_macs(file.model.graph, infer_types(file.model, meaning), taps)[0])


def _hash(file: OnnxFile) -> str:
    if not file.external:
        return sha256_file(file.path)
    whole = hashlib.sha256()
    for part in (file.path, *file.external):
        whole.update(bytes.fromhex(sha256_file(part)))
    return whole.hexdigest()
