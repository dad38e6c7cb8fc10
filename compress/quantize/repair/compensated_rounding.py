"""Round weights input by input, letting the inputs still to come make up for each rounding.

What an error E of a layer's weights does to its outputs is E H E^T, H the second moments of its inputs. After one
input has been rounded with an error e, the change of the weights after it that undoes most of e has a closed form,

    w_k -= e * U_jk / U_jj       U upper triangular, U^T U = inverse of H         (GPTQ, Frantar et al. 2022)

so nothing is trained and PyTorch is not needed. The inputs of a convolution are the values under its kernel; behind a
ReLU they rise and fall together, and nearest rounding makes no use of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer
from ..calibration.imagechunks import Images, as_sliceable, check_images, chunk_of, chunk_size
from ..passes.shortcut_to_convolution import selects_channels
from ..placing.targets import TARGETS
from ..plan import QuantPlan
from ..weights import output_axis, quantize_weight
from .channel_means import Progress, unfused_session

CHUNK_BYTES = 32 * 2**20
POSITIONS = 64
"""Of a map of each image, so many places at most, evenly spread, tell the moments of a convolution's inputs."""
MOST_INPUTS = 2304
"""Of a layer with more, channels are cut into blocks that do not make up for each other: H grows with the square."""
DAMPING = 0.01
"""Of the mean square of the inputs, added to each: what few images say about rare inputs is not the whole truth."""
COLUMNS = 128
"""Inputs rounded before the rest hears of it, so that most of the work is matrix products."""


def compensate_rounding(
    prepared: ir.Model,
    plan: QuantPlan,
    images: Images,
    *,
    on_progress: Progress | None = None,
) -> ir.Model:
    """A copy of the prepared graph whose int8 weights lie on the grid of the plan: nearest rounding gives their codes.

    Moments are those of the float network. Biases stay; `correct_bias(..., reference=prepared)` goes well with this.
    `on_progress(done, total)` counts images. Memory does not grow with the number of images.
    Raises EdgeLatheError for unusable images.
    """
    nodes = {str(node.name): node for node in prepared.graph if _roundable(node, plan)}
    moments = _moments(prepared, list(nodes.values()), images, on_progress)
    rounded = prepared.clone()
    for node in rounded.graph:
        if node.name in nodes:
            weight = _compensated(node, plan, moments.pop(node.name))
            node.replace_input_with(1, add_initializer(rounded.graph, f"{node.name}_compensated_weight", weight))
    ir.passes.common.RemoveUnusedNodesPass()(rounded)
    return rounded


def _roundable(node: ir.Node, plan: QuantPlan) -> bool:
    if str(node.name) not in plan.weights or selects_channels(node) or integer(node, "transA", 0):
        return False
    automatic = node.attributes.get("auto_pad")
    return automatic is None or automatic.as_string() in ("NOTSET", "VALID")


def _moments(
    prepared: ir.Model, nodes: Sequence[ir.Node], images: Images, on_progress: Progress | None
) -> dict[str, np.ndarray]:
    """By node, float32 [parts, n, n]: sum of the products of all inputs that an output channel adds up."""
    source = as_sliceable(images)
    check_images(prepared, source)
    graph = prepared.clone()
    values = {str(value.name): value for value in graph.graph.inputs}
    values |= {str(value.name): value for node in graph.graph for value in node.outputs}
    names = list(dict.fromkeys(str(node.inputs[0].name) for node in nodes if node.inputs[0] is not None))
    graph.graph.outputs.clear()
    graph.graph.outputs.extend(values[name] for name in names)
    session = unfused_session(graph)
    size = chunk_size(prepared, names, CHUNK_BYTES)
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(source), size):
        batch = chunk_of(source, start, size)
        fetched = dict(zip(names, session.run(None, {str(graph.graph.inputs[0].name): batch}), strict=True))
        for node in nodes:
            assert node.inputs[0] is not None
            inputs = _inputs_of(node, fetched[str(node.inputs[0].name)])
            products = inputs @ inputs.transpose(0, 2, 1)
            name = str(node.name)
            sums[name] = sums[name] + products if name in sums else products
        if on_progress:
            on_progress(start + len(batch), len(source))
    return sums


def _inputs_of(node: ir.Node, value: np.ndarray) -> np.ndarray:
    """float32 [parts, n, samples]: what every output of a part adds up."""
    weight = constant(node.inputs[1])
    assert weight is not None
    if node.op_type != "Conv":
        samples = value.reshape(-1, value.shape[-1]).T
        return _in_parts(samples[None, :, None, :], _parts(node, weight))
    ints = node.attributes.get_ints
    top, left, bottom, right = ints("pads", [0, 0, 0, 0])
    (tall, wide), (down, along) = ints("dilations", [1, 1]), ints("strides", [1, 1])
    height, width = weight.shape[2:]
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    spans = (tall * (height - 1) + 1, wide * (width - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, (2, 3))[:, :, ::down, ::along, ::tall, ::wide]
    places = windows.shape[2] * windows.shape[3]
    chosen = np.linspace(0, places - 1, min(places, POSITIONS)).round().astype(np.intp)
    rows, columns = np.divmod(chosen, windows.shape[3])
    seen = windows[:, :, rows, columns].transpose(1, 3, 4, 0, 2)
    return _in_parts(seen.reshape(1, seen.shape[0], height * width, -1), _parts(node, weight))


def _in_parts(samples: np.ndarray, parts: int) -> np.ndarray:
    """[1, channels, taps, samples] -> [parts, channels / parts * taps, samples]."""
    return np.ascontiguousarray(samples).reshape(parts, -1, samples.shape[3])


def _parts(node: ir.Node, weight: np.ndarray) -> int:
    """Into how many parts the input channels fall: groups, and blocks of at most MOST_INPUTS inputs."""
    groups = integer(node, "group", 1)
    axis = output_axis(node)
    channels, inputs = weight.shape[1 - axis], weight.size // weight.shape[axis]
    blocks = [count for count in range(1, channels + 1) if channels % count == 0]
    return groups * next((count for count in blocks if inputs // count <= MOST_INPUTS), channels)


def _compensated(node: ir.Node, plan: QuantPlan, moments: np.ndarray) -> np.ndarray:
    weight, planned = constant(node.inputs[1]), plan.weights[str(node.name)]
    assert weight is not None
    axis, groups = output_axis(node), integer(node, "group", 1)
    rows = np.moveaxis(weight, axis, 0)
    blocks = len(moments) // groups

    def by_part(array: np.ndarray) -> np.ndarray:
        """[out, ...] -> [parts, out of a group, inputs of a part], float64."""
        split = array.reshape(groups, len(rows) // groups, blocks, -1).transpose(0, 2, 1, 3)
        return split.reshape(len(moments), len(rows) // groups, -1).astype(np.float64)

    scales = by_part(np.broadcast_to(planned.array.reshape(-1, *[1] * (rows.ndim - 1)), rows.shape))
    most = np.full(rows.shape, planned.limit, np.float64)
    if TARGETS[plan.target].pair_max is not None:
        # Pairs of the nearest codes are known to fit into the processor's sums; smaller codes fit too.
        most = np.abs(np.moveaxis(quantize_weight(weight, planned.array, planned.axis, limit=planned.limit), axis, 0))
    most = np.where(rows == 0, 0, most)  # what was pruned stays zero, as in SparseGPT
    codes = _round_by_input(by_part(rows) / scales, moments.astype(np.float64), by_part(most))
    found = (codes * scales).reshape(groups, blocks, len(rows) // groups, -1).transpose(0, 2, 1, 3)
    return np.moveaxis(found.reshape(rows.shape), 0, axis).astype(np.float32)


def _round_by_input(wanted: np.ndarray, moments: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Codes float64 [parts, out, n] for weights in units of their scales; inputs with the largest moments go first."""
    parts, _, count = wanted.shape
    diagonal = np.einsum("pii->pi", moments)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    part = np.arange(parts)[:, None]
    damped = moments + np.eye(count) * (DAMPING * diagonal.mean(1) + np.finfo(np.float32).tiny)[:, None, None]
    damped = damped[part[:, :, None], order[:, :, None], order[:, None, :]]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left, most = (np.take_along_axis(array, order[:, None, :], axis=2) for array in (wanted, most))
    codes = np.empty_like(left)
    for start in range(0, count, COLUMNS):
        stop = min(start + COLUMNS, count)
        errors = np.empty_like(left[:, :, start:stop])
        for j in range(start, stop):
            codes[:, :, j] = np.clip(np.round(left[:, :, j]), -most[:, :, j], most[:, :, j])
            errors[:, :, j - start] = (left[:, :, j] - codes[:, :, j]) / upper[:, None, j, j]
            left[:, :, j + 1 : stop] -= errors[:, :, j - start, None] * upper[:, None, j, j + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    back = np.empty_like(codes)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], codes.shape), codes, axis=2)
    return back
