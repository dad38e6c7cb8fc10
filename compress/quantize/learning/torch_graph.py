"""A prepared ONNX graph as a PyTorch module: the same operators in the same order, with gradients.

Everything that learns on the graph (rounding, ranges, weights) runs on this one executor. What it changes about the
values and weights that flow through comes in by hooks, so that there is no second executor for fake quantization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from .... import errors
from ....models.onnx_graph import add_initializer, constant
from .torch_operators import OPERATORS, Operator

LEARNT_BY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose float32 constants become parameters: input 1 the weight, input 2 the bias."""


@dataclass(frozen=True)
class Step:
    """One node."""

    name: str
    op: str
    operator: Operator
    attributes: Mapping[str, Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Scheduled:
    step: Step
    done_with: tuple[str, ...]
    """Values that nothing after this step reads."""


class TorchGraph(nn.Module):
    """Images float32 [N, C, H, W] -> the graph's first output, as the ONNX model computes it.

    Raises EdgeLatheError for an operator outside `torch_operators.OPERATORS` and for several inputs. The model that
    it is made from stays untouched.
    """

    on_value: Callable[[str, Tensor], Tensor] | None
    """Called with the name and tensor of the graph's input and of everything that a node computes; its result takes
    the tensor's place."""
    on_weight: Callable[[str, Tensor], Tensor] | None
    """Called with the name of a node in `LEARNT_BY` and its constant weight each time that it is read."""
    on_constant: Callable[[str, int, Tensor], Tensor] | None
    """Called likewise with every other float constant (biases, operands): node, input position, tensor."""
    passed_over: frozenset[str]
    """Names of nodes that hand on their first input instead of computing."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        graph = model.graph
        inputs = [str(value.name) for value in graph.inputs if value.name not in graph.initializers]
        if len(inputs) != 1:
            raise errors.quantize.several_inputs(inputs)
        (self.input,) = inputs
        self.outputs = tuple(str(value.name) for value in graph.outputs)
        self.steps = tuple(_step(node) for node in graph if node.op_type != "Constant")
        self.on_value = self.on_weight = self.on_constant = None
        self.passed_over = frozenset()
        self._source = model
        self._schedules: dict[tuple[frozenset[str], tuple[str, ...]], tuple[_Scheduled, ...]] = {}
        self._keys: dict[str, str] = {}
        self._integers: dict[str, Tensor] = {}
        learnt = {
            value for node in graph if node.op_type in LEARNT_BY for value in node.inputs[1:3] if value is not None
        }
        for value in _constants(graph):
            self._store(value, value in learnt)

    def _store(self, value: ir.Value, learnt: bool) -> None:
        array = constant(value)
        assert array is not None
        name, tensor = str(value.name), torch.from_numpy(np.array(array))
        if not tensor.is_floating_point():
            self._integers[name] = tensor
            return
        key = name.replace(".", "/")  # the name of a parameter may hold no dots
        while hasattr(self, key):
            key += "_"
        self._keys[name] = key
        if learnt and tensor.dtype == torch.float32:
            self.register_parameter(key, nn.Parameter(tensor))
        else:
            self.register_buffer(key, tensor)

    def constant(self, name: str) -> Tensor | None:
        """The parameter, buffer or integers behind the name of a constant value; None for a computed one."""
        if name in self._keys:
            found = getattr(self, self._keys[name])
            assert isinstance(found, Tensor)
            return found
        return self._integers.get(name)

    def step(self, node: str) -> Step:
        return next(step for step in self.steps if step.name == node)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, collect=self.outputs[:1])[self.outputs[0]]

    def run(self, x: Tensor | Mapping[str, Tensor], *, collect: Iterable[str]) -> dict[str, Tensor]:
        """The values named in `collect`, computed from images or from the values given by name in `x`.

        Only the nodes between the two are run. A given value is taken as it is; `on_value` sees the graph's input and
        what nodes compute. Raises EdgeLatheError for names that do not exist or cannot be computed from `x`.
        """
        values = {self.input: x} if isinstance(x, Tensor) else dict(x)
        wanted = tuple(dict.fromkeys(collect))
        schedule = self._schedule(frozenset(values), wanted)
        if self.on_value and self.input in values:
            values[self.input] = self.on_value(self.input, values[self.input])
        found = {name: values[name] for name in wanted if name in values}
        for scheduled in schedule:
            step = scheduled.step
            results = self._compute(step, values)
            for name, result in zip(step.outputs, results, strict=False):
                if name:
                    values[name] = self.on_value(name, result) if self.on_value else result
                    if name in wanted:
                        found[name] = values[name]
            for name in scheduled.done_with:
                values.pop(name, None)
        return found

    def _compute(self, step: Step, values: Mapping[str, Tensor]) -> Sequence[Tensor]:
        if step.name in self.passed_over:
            assert step.inputs[0] is not None
            return [values[step.inputs[0]]]
        inputs = [self._read(step, position, values) for position in range(len(step.inputs))]
        results = step.operator(step.attributes, *inputs)
        return [results] if isinstance(results, Tensor) else results

    def _read(self, step: Step, position: int, values: Mapping[str, Tensor]) -> Tensor | None:
        name = step.inputs[position]
        if name is None:
            return None
        if name in values:
            return values[name]
        tensor = self.constant(name)
        assert tensor is not None, name
        if step.op in LEARNT_BY and position == 1:
            return self.on_weight(step.name, tensor) if self.on_weight else tensor
        if self.on_constant and tensor.is_floating_point():
            return self.on_constant(step.name, position, tensor)
        return tensor

    def _schedule(self, given: frozenset[str], wanted: tuple[str, ...]) -> tuple[_Scheduled, ...]:
        """The nodes between given and wanted values, in graph order, with what each makes superfluous."""
        known = self._schedules.get((given, wanted))
        if known is not None:
            return known
        producers = {name: i for i, step in enumerate(self.steps) for name in step.outputs if name}
        names = {self.input, *producers}
        unknown = [name for name in (*given, *wanted) if name not in names]
        if unknown:
            raise errors.quantize.unknown_nodes(unknown, names)
        needed: set[int] = set()
        pending = [name for name in wanted if name not in given]
        while pending:
            name = pending.pop()
            if name == self.input:
                raise errors.quantize.value_needs_input(wanted, self.input, sorted(given))
            if producers[name] not in needed:
                needed.add(producers[name])
                reads = self.steps[producers[name]].inputs
                pending += [read for read in reads if read in names and read not in given]
        last: dict[str, int] = {}
        for number in sorted(needed):
            step = self.steps[number]
            last.update(dict.fromkeys((name for name in (*step.inputs, *step.outputs) if name in names), number))
        done: dict[int, list[str]] = {}
        for name, number in last.items():
            done.setdefault(number, []).append(name)
        schedule = tuple(_Scheduled(self.steps[number], tuple(done.get(number, ()))) for number in sorted(needed))
        self._schedules[given, wanted] = schedule
        return schedule

    def to_ir(self) -> ir.Model:
        """A copy of the model that this was made from, with the parameters as they are now."""
        written = self._source.clone()
        for value in list(_constants(written.graph)):
            name = str(value.name)
            parameter = getattr(self, self._keys[name]) if name in self._keys else None
            if isinstance(parameter, nn.Parameter):
                array = parameter.detach().cpu().contiguous().numpy().copy()
                if value.is_initializer():
                    value.const_value = ir.tensor(array, name=name)
                else:
                    value.replace_all_uses_with(add_initializer(written.graph, f"{name}_trained", array))
        return written

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchGraph:
        for shared in (self._source, self.steps):  # nothing here writes to them
            memo[id(shared)] = shared
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


def _constants(graph: ir.Graph) -> list[ir.Value]:
    computed = [node.outputs[0] for node in graph if node.op_type == "Constant"]
    return [*graph.initializers.values(), *computed]


def _step(node: ir.Node) -> Step:
    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        raise errors.quantize.no_torch_operator(node.op_type, str(node.name), OPERATORS)
    attributes = {name: _plain(attribute) for name, attribute in node.attributes.items()}
    if node.op_type == "Split":
        attributes.setdefault("num_outputs", len(node.outputs))
    return Step(
        str(node.name),
        node.op_type,
        OPERATORS[node.op_type],
        attributes,
        tuple(None if value is None else str(value.name) for value in node.inputs),
        tuple(str(value.name or "") for value in node.outputs),
    )


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.STRING:
        return attribute.as_string()
    return attribute.value
