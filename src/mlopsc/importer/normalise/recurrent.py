"""Pass *ExpandRecurrent*: writes ``RNN``, ``GRU`` and ``LSTM`` as a ``Loop`` over time.

Requires: inferred shapes. Ensures: none of the three is left. The input of all steps times W is one
``MatMul`` before the loop, so that a step multiplies only the state. A direction is a loop of its
own. After the end of a sequence (``sequence_lens``) the states stay and the output is 0; the last
states of an empty sequence are 0, as in ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise import subgraphs
from mlopsc.importer.normalise.constants import constant_of
from mlopsc.importer.normalise.recurrent_cells import (
    ACTIVATIONS,
    DEFAULT_ACTIVATIONS,
    GATES,
    STATES,
    Activation,
    Cell,
    activations,
    numpy_dtype,
)
from mlopsc.importer.normalise.write import Writer


class ExpandRecurrent(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every recurrent node.

        Raises:
            UnsupportedOpError: It names an activation that ONNX does not have.
        """
        nodes = [n for n in model.graph.all_nodes() if n.op_type in GATES and not n.domain]
        modified = False
        for node in nodes:
            x = node.inputs[0]
            if x is None or x.shape is None or x.dtype is None or len(x.shape) != 3:
                continue
            write = Writer(model, node.name)
            results = _Expansion(node, write).results()
            write.put_before(node)
            subgraphs.replace(node, results[: len(node.outputs)])
            modified = True
        if modified:
            subgraphs.make_names_unique(model)
        return ir.passes.PassResult(model, modified)


@dataclass(frozen=True)
class _Direction:
    """One direction: which, its cell, X times W with biases, initial states."""

    reverse: bool
    cell: Cell
    x: ir.Value
    initial: list[ir.Value]


class _Expansion:
    def __init__(self, node: ir.Node, write: Writer) -> None:
        self._node, self._write = node, write
        self._kind = node.op_type
        self._batch_first = bool(self._attribute("layout", 0))
        x = self._input(0)
        self._dtype = numpy_dtype(x)
        self._x = write("Transpose", x, perm=[1, 0, 2]) if self._batch_first else x
        self._hidden = int(self._attribute("hidden_size", 0)) or self._size(2, 2)
        shape = write("Shape", self._x)
        self._steps = write("Gather", shape, write.constant(0), axis=0)
        self._batch = write("Slice", shape, write.constant([1]), write.constant([2]))
        self._lengths = self._sequence_lengths()

    def results(self) -> list[ir.Value]:
        """Return Y and the last states, as the node gives them."""
        write = self._write
        direction = str(self._attribute("direction", "forward"))
        chosen = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        functions = self._activations(len(chosen))
        parts = [
            self._run(self._direction(index, reverse, functions[index]))
            for index, reverse in enumerate(chosen)
        ]
        axes = (2, *[1] * STATES[self._kind]) if self._batch_first else (1, *[0] * 2)
        order = [1, 0, 2]
        results = []
        for axis, column in zip(axes, zip(*parts, strict=True), strict=False):
            single = [
                write("Unsqueeze", v, write.constant([axis]))
                for v in (
                    write("Transpose", v, perm=order) if self._batch_first and axis == 2 else v
                    for v in column
                )
            ]
            results.append(write("Concat", *single, axis=axis) if len(single) > 1 else single[0])
        return results

    def _run(self, direction: _Direction) -> list[ir.Value]:
        """Loop over time; return the outputs [steps, batch, hidden] and the last states."""
        write, inner = self._write, self._write.body()
        number = ir.Value(name=f"{write.name}_step")
        states = [ir.Value(name=f"{write.name}_state{k}") for k in range(len(direction.initial))]
        step: ir.Value = number
        backwards = direction.reverse and self._lengths is None
        if backwards:
            step = inner("Sub", write("Sub", self._steps, write.constant(1)), number)
        x = inner("Gather", direction.x, step, axis=0)
        new = direction.cell.step(inner, x, states)
        output = new[0]
        if self._lengths is not None:
            running = inner("Less", number, self._lengths)
            new = [inner("Where", running, n, s) for n, s in zip(new, states, strict=True)]
            output = inner("Where", running, output, write.constant(0, self._dtype))
        y, *last = _rotate(
            write.loop(
                self._steps, direction.initial, (inner, [number, *states], [*new, output]), 1
            )
        )
        if self._lengths is not None:
            zero = write.constant(0, self._dtype)
            any_step = write("Less", write.constant(0), self._lengths)
            last = [write("Where", any_step, state, zero) for state in last]
        if backwards:
            y = write.reversed(y)
        elif direction.reverse:
            y = self._reverse(y)
        return [y, *last]

    def _direction(
        self, index: int, reverse: bool, functions: tuple[Activation, ...]
    ) -> _Direction:
        write, hidden, gates = self._write, self._hidden, GATES[self._kind]
        w, r = (write("Transpose", self._slice(self._input(k), index), perm=[1, 0]) for k in (1, 2))
        x = self._reverse(self._x) if reverse and self._lengths is not None else self._x
        x = write("MatMul", x, w)
        linear = bool(self._attribute("linear_before_reset", 0))
        bias, peepholes = self._optional(3), self._optional(7)
        inner_bias = None
        if bias is not None:
            halves = write.constant([gates * hidden] * 2)
            wb, rb = write.several("Split", [self._slice(bias, index), halves], 2, axis=0)
            if self._kind == "GRU" and linear:
                sizes = write.constant([2 * hidden, hidden])
                outer, inner_bias = write.several("Split", [rb, sizes], 2, axis=0)
                zeros = write.constant([0] * hidden, self._dtype)
                rb = write("Concat", outer, zeros, axis=0)
            x = write("Add", x, write("Add", wb, rb))
        peeps: list[ir.Value] = []
        if peepholes is not None:
            thirds = write.constant([hidden] * 3)
            peeps = write.several("Split", [self._slice(peepholes, index), thirds], 3, axis=0)
        clip = self._attribute("clip", None)
        cell = Cell(
            kind=self._kind,
            activations=functions,
            recurrence=r,
            bias=inner_bias,
            peepholes=tuple(peeps),
            clip=None if clip is None else float(clip),
            hidden=hidden,
            couple=bool(self._attribute("input_forget", 0)),
            linear_before_reset=linear,
            dtype=self._dtype,
        )
        initial = [self._initial(5 + k, index) for k in range(STATES[self._kind])]
        return _Direction(reverse, cell, x, initial)

    def _initial(self, position: int, index: int) -> ir.Value:
        write = self._write
        given = self._optional(position)
        if given is not None:
            at = write.constant(index)
            return write("Gather", given, at, axis=1 if self._batch_first else 0)
        size = write("Concat", self._batch, write.constant([self._hidden]), axis=0)
        return write("Expand", write.constant(0, self._dtype), size)

    def _sequence_lengths(self) -> ir.Value | None:
        """Return the lengths as int64 [batch, 1], or None if all sequences run to the end."""
        write, given = self._write, self._optional(4)
        if given is None:
            return None
        known, shape = constant_of(given), self._input(0).shape
        steps = shape[1 if self._batch_first else 0] if shape is not None else None
        if known is not None and isinstance(steps, int) and bool((known >= steps).all()):
            return None
        lengths = write("Cast", given, to=int(ir.DataType.INT64))
        return write("Unsqueeze", lengths, write.constant([1]))

    def _reverse(self, value: ir.Value) -> ir.Value:
        """Reverse each sequence of ``value`` [steps, batch, ...] up to its own length."""
        write = self._write
        lengths = write("Squeeze", self._lengths, write.constant([1]))
        return write("ReverseSequence", value, lengths, time_axis=0, batch_axis=1)

    def _activations(self, directions: int) -> list[tuple[Activation, ...]]:
        defaults = DEFAULT_ACTIVATIONS[self._kind]
        names = [
            n.decode() if isinstance(n, bytes) else str(n)
            for n in self._attribute("activations", [])
        ]
        names = names or [*defaults] * directions
        wrong = [n for n in names if n.lower() not in ACTIVATIONS]
        if wrong or len(names) != len(defaults) * directions:
            raise UnsupportedOpError(
                f"node '{self._node.name}' ({self._kind}) has the activations {names}; expected "
                f"{len(defaults) * directions} of {', '.join(sorted(ACTIVATIONS))}",
                hint="export the model again with the activations that ONNX defines",
            )
        alphas = self._attribute("activation_alpha", [])
        betas = self._attribute("activation_beta", [])
        found = list(activations(names, alphas, betas))
        size = len(defaults)
        return [tuple(found[size * k : size * (k + 1)]) for k in range(directions)]

    def _slice(self, value: ir.Value, index: int) -> ir.Value:
        return self._write("Gather", value, self._write.constant(index), axis=0)

    def _size(self, position: int, axis: int) -> int:
        shape = self._input(position).shape
        return int(shape[axis]) if shape is not None and isinstance(shape[axis], int) else 0

    def _input(self, position: int) -> ir.Value:
        value = self._optional(position)
        if value is None:
            raise UnsupportedOpError(
                f"node '{self._node.name}' ({self._kind}): input {position} is missing",
                hint="export the model again",
            )
        return value

    def _optional(self, position: int) -> ir.Value | None:
        inputs = self._node.inputs
        return inputs[position] if position < len(inputs) else None

    def _attribute(self, name: str, default: Any) -> Any:
        found = self._node.attributes.get(name)
        return default if found is None else found.value


def _rotate(values: list[ir.Value]) -> list[ir.Value]:
    """Return the last value first."""
    return [values[-1], *values[:-1]]
