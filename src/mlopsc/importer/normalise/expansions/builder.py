"""What an expansion is written with: tensors that know type and shape, and nodes made from them.

Requires: the node to expand has inputs of known type and static shape. Ensures: every value made
has a type and, where ONNX's inference gives one, a static shape; names are unique in the graph.
Operators are of the model's own opset, which is at least ``upgrade.OPSET``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from onnx.shape_inference import infer_node_outputs

Array = np.ndarray[Any, Any]
Number = int | float | bool | np.generic
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """Why a node cannot be expanded.

    Attributes:
        reason: In one line, to follow the node's name.
        value: What would have to be constant, if that is the reason.
        hint: What to do, if there is more to say than to do without the node.
    """

    def __init__(
        self, reason: str, value: ir.Value | None = None, *, hint: str | None = None
    ) -> None:
        """Store them."""
        super().__init__(reason)
        self.reason, self.value, self.hint = reason, value, hint


def _unary(op: str) -> Callable[[Tensor], Tensor]:
    return lambda x: x.builder.op(op, x)


def _binary(op: str) -> Callable[[Tensor, Operand], Tensor]:
    return lambda x, y: x.builder.op(op, x, y)


def _reversed(op: str) -> Callable[[Tensor, Operand], Tensor]:
    return lambda x, y: x.builder.op(op, y, x)


class Tensor:
    """A value with array arithmetic; a number or array beside it becomes a constant of its type."""

    def __init__(self, builder: Builder, value: ir.Value) -> None:
        """Wrap ``value``, which has a type and a static shape."""
        self.builder, self.value = builder, value

    @property
    def dtype(self) -> ir.DataType:
        """Element type."""
        return cast(ir.DataType, self.value.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape."""
        shape = self.value.shape
        if shape is None or not shape.is_static():
            raise Refusal(f"the shape of '{self.value.name}' is not known")
        return tuple(int(d) for d in shape)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def array(self) -> Array | None:
        """The elements, if they are known."""
        tensor = self.value.const_value
        return None if tensor is None else np.asarray(tensor.numpy())

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers of 16 bits or more."""
        return self.dtype in FLOATS

    __add__, __radd__ = _binary("Add"), _reversed("Add")
    __sub__, __rsub__ = _binary("Sub"), _reversed("Sub")
    __mul__, __rmul__ = _binary("Mul"), _reversed("Mul")
    __truediv__, __rtruediv__ = _binary("Div"), _reversed("Div")
    __lt__, __gt__ = _binary("Less"), _binary("Greater")
    __and__, __or__ = _binary("And"), _binary("Or")
    __neg__, __invert__ = _unary("Neg"), _unary("Not")
    equals = _binary("Equal")

    def cast(self, dtype: ir.DataType) -> Tensor:
        """Return the elements as ``dtype``; the tensor itself if it has that type."""
        if dtype == self.dtype:
            return self
        return self.builder.op("Cast", self, to=int(dtype))

    def reshape(self, *shape: int) -> Tensor:
        """Return the elements in row order with another shape (``-1`` for at most one size)."""
        if shape == self.shape:
            return self
        return self.builder.op("Reshape", self, np.array(shape, np.int64))

    def transpose(self, *order: int) -> Tensor:
        """Return the axes in another order."""
        if order == tuple(range(self.rank)):
            return self
        return self.builder.op("Transpose", self, perm=list(order))

    def expand(self, *shape: int) -> Tensor:
        """Return the tensor repeated along axes of size 1 to ``shape``."""
        if shape == self.shape:
            return self
        return self.builder.op("Expand", self, np.array(shape, np.int64))

    def gather(self, indices: Tensor | Array, axis: int) -> Tensor:
        """Return the elements at ``indices`` along ``axis``."""
        return self.builder.op("Gather", self, indices, axis=axis)

    def part(self, axis: int, start: int, stop: int) -> Tensor:
        """Return ``start`` to ``stop`` along ``axis``."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        limits = [np.array([v], np.int64) for v in (start, stop, axis % self.rank)]
        return self.builder.op("Slice", self, *limits)


Operand = Tensor | Array | Number | None
# One iteration: its number and the carried values; whether to go on, and the new values.
Body = Callable[[Tensor, list[Tensor]], tuple[Tensor | None, list[Tensor]]]
Expansion = Callable[["Builder"], Tensor | Sequence[Tensor | None] | None]


def total(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of ``terms``, from the left."""
    return functools.reduce(lambda x, y: x + y, terms)


class Builder:
    """Makes the nodes that take one node's place."""

    def __init__(self, node: ir.Node, opset: int, taken: set[str]) -> None:
        """Prepare to expand ``node``; names made are added to ``taken``."""
        self.node = node
        self.opset = opset
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self.imports: dict[str, int] = {}  # further operator sets that the nodes are of
        self._prefix = node.outputs[0].name or node.op_type
        self._taken = taken
        self._count = 0

    def input(self, index: int) -> Tensor | None:
        """Return an input, or None if it is left out."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None else Tensor(self, value)

    def required(self, index: int) -> Tensor:
        """Return an input that the operator demands."""
        found = self.input(index)
        if found is None:
            raise Refusal(f"input {index} is missing")
        return found

    def array(self, index: int, what: str) -> Array | None:
        """Return an input that must be constant, or None if it is left out."""
        found = self.input(index)
        if found is None:
            return None
        if found.array is None:
            raise Refusal(
                f"{what} ('{found.value.name}') is computed at run time; expected a constant",
                found.value,
            )
        return found.array

    def inputs(self) -> list[Tensor]:
        """Return all inputs that are present."""
        return [Tensor(self, v) for v in self.node.inputs if v is not None]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, strings as ``str``."""
        found = self.node.attributes.get(name)
        if found is None or found.value is None:
            return default
        return list(found.value) if isinstance(found.value, tuple) else found.value

    def wanted(self, index: int) -> bool:
        """Whether an output is used."""
        if index >= len(self.node.outputs):
            return False
        output = self.node.outputs[index]
        return bool(output.name) and (bool(output.uses()) or output.is_graph_output())

    def constant(self, value: Array | Number, dtype: ir.DataType | None = None) -> Tensor:
        """Return a constant, as ``dtype`` if one is given."""
        array = np.asarray(value)
        if dtype is not None:
            array = array.astype(dtype.numpy())
        name = self._name()
        made = ir.Value(
            name=name,
            const_value=ir.tensor(array, dtype=dtype, name=name),
            shape=ir.Shape(array.shape),
            type=ir.TensorType(dtype or ir.DataType.from_numpy(array.dtype)),
        )
        self.constants.append(made)
        return Tensor(self, made)

    def _name(self) -> str:
        while True:
            self._count += 1
            name = f"{self._prefix}_{self._count}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def op(self, op_type: str, *operands: Operand, domain: str = "", **attributes: Any) -> Tensor:
        """Make a node and return its first output.

        Numbers become constants of the first tensor's type; arrays keep their own type.
        """
        like = next((o.dtype for o in operands if isinstance(o, Tensor)), None)
        values: list[ir.Value | None] = []
        for operand in operands:
            if operand is None:
                values.append(None)
            elif isinstance(operand, Tensor):
                values.append(operand.value)
            elif isinstance(operand, np.ndarray):
                values.append(self.constant(operand).value)
            else:
                values.append(self.constant(operand, like).value)
        made = ir.node(op_type, values, attributes, domain=domain)
        output = made.outputs[0]
        output.name = self._name()
        made.name = f"{self.node.name}_{len(self.nodes)}" if self.node.name else None
        self._infer(made)
        self.nodes.append(made)
        return Tensor(self, output)

    def loop(self, count: int, initial: Sequence[Tensor], body: Body) -> list[Tensor]:
        """Make a ``Loop`` and return the carried values after it.

        Args:
            count: At most so many iterations.
            initial: Carried values, whose types and shapes stay.
            body: Makes the nodes of an iteration from its number and the carried values, and
                returns whether to go on (None: yes) and the new carried values.
        """

        def like(dtype: ir.DataType, shape: Sequence[int]) -> Tensor:
            value = ir.Value(
                name=self._name(), type=ir.TensorType(dtype), shape=ir.Shape(list(shape))
            )
            return Tensor(self, value)

        number, condition = like(ir.DataType.INT64, ()), like(ir.DataType.BOOL, ())
        carried = [like(x.dtype, x.shape) for x in initial]
        outer, self.nodes = self.nodes, []
        going, new = body(number, carried)
        results = [self.op("Identity", v) for v in (condition if going is None else going, *new)]
        graph = ir.Graph(
            [number.value, condition.value, *(x.value for x in carried)],
            [x.value for x in results],
            nodes=self.nodes,
            name=self._name(),
        )
        self.nodes = outer
        count_value = self.constant(np.array(count, np.int64)).value
        first = None if going is None else self.constant(np.array(True)).value
        made = ir.node(
            "Loop",
            [count_value, first, *(x.value for x in initial)],
            {"body": graph},
            num_outputs=len(initial),
        )
        made.name = f"{self.node.name}_{len(self.nodes)}" if self.node.name else None
        for output, x in zip(made.outputs, initial, strict=True):
            output.name, output.type, output.shape = self._name(), x.value.type, x.value.shape
        self.nodes.append(made)
        return [Tensor(self, output) for output in made.outputs]

    def _infer(self, node: ir.Node) -> None:
        """Give the output type and shape, by ONNX's own inference."""
        opset = self.imports[node.domain] if node.domain else self.opset
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        types, data = {}, {}
        for value in node.inputs:
            if value is None:
                continue
            proto = onnx.TypeProto()
            proto.tensor_type.elem_type = int(value.dtype or 0)
            shape = proto.tensor_type.shape
            shape.SetInParent()  # also of rank 0
            for size in value.shape or ():
                shape.dim.add().dim_value = int(size)
            types[str(value.name)] = proto
            if value.const_value is not None and value.const_value.size <= 64:
                data[str(value.name)] = ir.to_proto(value.const_value)
        opsets = [onnx.helper.make_opsetid(node.domain, opset)]
        try:
            found = infer_node_outputs(schema, ir.to_proto(node), types, data, opset_imports=opsets)
        except onnx.shape_inference.InferenceError as error:
            raise Refusal(" ".join(str(error).split())[:200]) from error
        inferred = found[str(node.outputs[0].name)].tensor_type
        node.outputs[0].type = ir.TensorType(ir.DataType(inferred.elem_type))
        if inferred.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in inferred.shape.dim]
            node.outputs[0].shape = ir.Shape(sizes)

    def reduce(self, kind: str, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """Return ``Reduce<kind>`` over ``axes``; over none, ``x`` itself."""
        if not axes:
            return x
        chosen = sorted({a % x.rank for a in axes})
        return self.op(f"Reduce{kind}", x, np.array(chosen, np.int64), keepdims=int(keep))

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Return ``parts`` joined along ``axis``."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis)

    def where(self, condition: Operand, a: Operand, b: Operand) -> Tensor:
        """Return ``a`` where ``condition`` holds, else ``b``; one of them is a tensor."""
        like = next(v.dtype for v in (a, b) if isinstance(v, Tensor))
        chosen = [v if isinstance(v, Tensor) else self.constant(cast(Any, v), like) for v in (a, b)]
        return self.op("Where", condition, *chosen)

    def pad(self, x: Tensor, before: Sequence[int], after: Sequence[int], value: Number) -> Tensor:
        """Return ``x`` with ``value`` around it; negative sizes crop."""
        if not any(before) and not any(after):
            return x
        pads = [*before, *after]
        return self.op("Pad", x, np.array(pads, np.int64), self.constant(value, x.dtype))
