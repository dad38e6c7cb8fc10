"""Names in keep_float that would change nothing: said, not passed over."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .... import errors
from .placement import place


def check_keep_float(model: ir.Model, names: Sequence[str], *, target: str) -> None:
    """Raises EdgeLatheError for a name of a prepared graph's node, or of its value, that is float without being named,
    or that is absorbed into the node before it."""
    decisions = dict(zip(model.graph, place(model, target=target).nodes, strict=True))
    by_name = {str(value.name): decision for node, decision in decisions.items() for value in node.outputs}
    by_name |= {str(node.name): decision for node, decision in decisions.items()}
    for name in names:
        decision = by_name.get(name)
        if decision is not None and decision.kind == "float":
            raise errors.quantize.stays_float_anyway(name, decision.reason)
        if decision is not None and decision.kind == "absorbed":
            raise errors.quantize.absorbed(name, decision.reason)
