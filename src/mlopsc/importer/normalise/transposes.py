"""Pass *RemoveTransposes*: computes in the layout that is there instead of changing it.

Converters from layouts with channels last leave a ``Transpose`` in front of what takes another
layout. Where all that reads it can as well compute in the layout before it, through elementwise
operators, ``Concat``, ``Softmax`` and reductions, it is not needed: up to a reduction, another
``Transpose``, or a product with constant weights, whose rows are put in the other order.

Requires: inferred shapes. Ensures: the graph has no more nodes of ``Transpose`` than before, and
none that could be left out so. What stays is as it was: nothing is moved unless one vanishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.constants import constant_of
from mlopsc.importer.normalise.subgraphs import replace
from mlopsc.importer.normalise.write import Writer, add_constant

_ELEMENTWISE: Final = frozenset(
    {
        "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "HardSigmoid",
        "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "Pow",
        "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip
_ALONG: Final = frozenset({"Concat", "LogSoftmax", "Softmax"})  # have one axis
_REDUCTIONS: Final = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})
_MAX_REGION: Final = 64  # nodes that are looked at for one Transpose


class RemoveTransposes(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Leave out every one that can be left out."""
        modified = False
        for node in list(model.graph.all_nodes()):
            if _is(node, "Transpose") and node.graph is not None:
                region = _Region(model, node)
                if region.can_vanish():
                    region.rewrite()
                    modified = True
        return ir.passes.PassResult(model, modified)


class _Region:
    """What reads a ``Transpose``, as far as it can compute in the other layout."""

    def __init__(self, model: ir.Model, start: ir.Node) -> None:
        self._model = model
        self._graph = start.graph
        self._perm = _perm_of(start)
        self._starts = [start]
        self._nodes: list[ir.Node] = []
        self._inner: dict[ir.Value, ir.Value] = {}

    def can_vanish(self) -> bool:
        """Whether all that reads the ``Transpose`` can do without it."""
        if self._perm is None or not _static(self._starts[0].inputs[0]):
            return False
        waiting = [self._starts[0].outputs[0]]
        reached = set(waiting)
        while waiting:
            value = waiting.pop()
            if value.is_graph_output() or not value.uses() or len(self._nodes) > _MAX_REGION:
                return False
            for use in value.uses():
                node = use.node
                if node in self._nodes:
                    continue
                if node.graph is not self._graph or node.domain:
                    return False
                self._nodes.append(node)
                if not self._goes_on(node):
                    if not self._ends(node, value):
                        return False
                    continue
                for other in node.inputs:
                    if other is None or other in reached or constant_of(other) is not None:
                        continue
                    source = other.producer()
                    same = source is not None and _is(source, "Transpose")
                    if source is None or not same or _perm_of(source) != self._perm:
                        # It may be reached later, on another way.
                        if source is None or source.graph is not self._graph:
                            return False
                        continue
                    self._starts.append(source)
                    reached.add(other)
                    waiting.append(other)
                reached.add(node.outputs[0])
                waiting.append(node.outputs[0])
        return self._is_closed(reached)

    def _is_closed(self, reached: set[ir.Value]) -> bool:
        """Whether nodes inside take nothing from outside that has the old layout."""
        for node in self._nodes:
            if self._goes_on(node):
                for value in node.inputs:
                    known = value is None or value in reached or constant_of(value) is not None
                    if not known:
                        return False
        return True

    def _goes_on(self, node: ir.Node) -> bool:
        """Whether the result of ``node`` has the layout of what it takes."""
        output = node.outputs[0]
        rank = len(self._perm or ())
        if len(node.outputs) != 1 or not _static(output) or len(output.shape or ()) != rank:
            return False
        if node.op_type in _REDUCTIONS:
            return _keeps(node) and _axes_of(node, rank) is not None
        if node.op_type == "Concat":
            return all(_rank(value) == rank for value in node.inputs)
        return node.op_type in _ELEMENTWISE or node.op_type in _ALONG

    def _ends(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether ``node`` can take the other layout, and give what it gives."""
        perm = self._perm or ()
        if _is(node, "Transpose"):
            return True
        if node.op_type in _REDUCTIONS:
            axes = _axes_of(node, len(perm))
            return axes is not None and _in_order(perm, axes)
        if node.op_type in ("Reshape", "Flatten") and value is node.inputs[0]:
            moved = [axis for axis in perm if _sizes(self._inside(value))[axis] != 1]
            return moved == sorted(moved) or self._products(node) is not None
        return False

    def _inside(self, value: ir.Value) -> list[int]:
        """Return the shape that ``value`` has in the other layout."""
        sizes = [0] * len(self._perm or ())
        for place, axis in enumerate(self._perm or ()):
            sizes[axis] = int((value.shape or ())[place])
        return sizes

    def _products(self, node: ir.Node) -> list[ir.Node] | None:
        """Return the products with constants that alone read a matrix made of the tensor."""
        value, output = node.inputs[0], node.outputs[0]
        if value is None or output.is_graph_output() or (self._perm or (1,))[0] != 0:
            return None
        rows, *rest = [int(size) for size in value.shape or ()]
        if not _static(output) or list(output.shape or ()) != [rows, int(np.prod(rest))]:
            return None
        found = []
        for use in output.uses():
            product = use.node
            weights = constant_of(product.inputs[1]) if len(product.inputs) > 1 else None
            plain = use.idx == 0 and weights is not None and weights.ndim == 2
            transposed = product.attributes.get("transA")
            if product.op_type not in ("Gemm", "MatMul") or product.domain or not plain:
                return None
            if transposed is not None and transposed.as_int():
                return None
            found.append(product)
        return found or None

    def rewrite(self) -> None:
        """Compute in the other layout."""
        for start in self._starts:
            source = start.inputs[0]
            if source is not None:
                self._inner[start.outputs[0]] = source
        order = {node: number for number, node in enumerate(self._graph or ())}
        for node in sorted(self._nodes, key=order.__getitem__):
            if node in self._starts:
                continue  # what it reads has the layout inside already, and stays
            if self._goes_on(node):
                self._inner[node.outputs[0]] = self._again(node)
            else:
                self._end(node)

    def _again(self, node: ir.Node) -> ir.Value:
        """Write ``node`` once more, for the other layout."""
        perm = self._perm or ()
        inputs: list[ir.Value | None] = [self._taken(node, value) for value in node.inputs]
        attributes = dict(node.attributes)
        if node.op_type in _ALONG:
            given = attributes.get("axis")
            axis = (given.as_int() if given is not None else -1) % len(perm)
            attributes["axis"] = ir.AttrInt64("axis", perm[axis])
        if node.op_type in _REDUCTIONS:
            inputs, attributes = self._reduced(node)
        made = ir.Node("", node.op_type, inputs, list(attributes.values()), name=node.name)
        old = node.outputs[0]
        made.outputs[0].type, made.outputs[0].shape = old.type, ir.Shape(self._inside(old))
        made.outputs[0].name = f"{old.name}_{len(self._inner)}"
        node.graph.insert_before(node, made)
        return made.outputs[0]

    def _taken(self, node: ir.Node, value: ir.Value | None) -> ir.Value | None:
        """Return an input in the other layout; constants are transposed, scalars stay."""
        if value is None or value in self._inner:
            return None if value is None else self._inner[value]
        array = constant_of(value)
        if array is None:
            raise ValueError(f"'{value.name}' is neither inside nor constant")
        if array.size == 1 or node.op_type == "Clip":
            if array.ndim and node.op_type == "Concat":
                back = np.argsort(self._perm or ())
                return add_constant(self._model, array.transpose(back), f"{value.name}_moved")
            return value
        perm = self._perm or ()
        full = array.reshape([1] * (len(perm) - array.ndim) + list(array.shape))
        moved = np.ascontiguousarray(full.transpose(np.argsort(perm)))
        return add_constant(self._model, moved, f"{value.name}_moved")

    def _reduced(self, node: ir.Node) -> tuple[list[ir.Value | None], dict[str, ir.Attr]]:
        """Return inputs and attributes of a reduction in the other layout."""
        perm = self._perm or ()
        axes = sorted(perm[axis] for axis in _axes_of(node, len(perm)) or ())
        value = node.inputs[0]
        inner = self._inner[value] if value is not None else None
        numbers = add_constant(self._model, np.array(axes, np.int64), f"{node.name}_axes")
        attributes = {key: node.attributes[key] for key in node.attributes if key != "axes"}
        return [inner, numbers], attributes

    def _end(self, node: ir.Node) -> None:
        """Let the last node take the other layout."""
        value = node.inputs[0]
        perm = self._perm or ()
        if value is None:
            return
        inner = self._inner[value]
        write = Writer(self._model, node.name)
        if _is(node, "Transpose"):
            both = [perm[axis] for axis in _perm_of(node) or ()]
            if both == sorted(both):
                replace(node, [inner])  # which keeps its name if it is an input or output
                return
            result = write("Transpose", inner, perm=both)
        elif node.op_type in _REDUCTIONS:
            inputs, attributes = self._reduced(node)
            keep = attributes["keepdims"].as_int() if "keepdims" in attributes else 1
            result = write(node.op_type, *inputs, keepdims=keep)
        else:
            moved = [axis for axis in perm if self._inside(value)[axis] != 1]
            if moved != sorted(moved):
                self._permute_weights(node, value)
            shape = np.array(_sizes(list(node.outputs[0].shape or ())), np.int64)
            target = add_constant(self._model, shape, f"{node.name}_shape")
            result = write("Reshape", inner, target)
        old = node.outputs[0]
        graph = node.graph
        if graph is None:
            return
        result.type, result.shape = old.type, old.shape
        ir.convenience.replace_nodes_and_values(graph, node, [node], write.nodes, [old], [result])

    def _permute_weights(self, node: ir.Node, value: ir.Value) -> None:
        """Put the rows of the products' weights into the order of the other layout."""
        rest = [int(size) for size in list(value.shape or ())[1:]]
        back = np.argsort([axis - 1 for axis in (self._perm or ())[1:]])
        rows = np.arange(int(np.prod(rest))).reshape(rest).transpose(back).ravel()
        for product in self._products(node) or ():
            weights = constant_of(product.inputs[1])
            given = product.attributes.get("transB")
            columns = given is not None and bool(given.as_int())
            if weights is None:
                continue
            moved = weights[:, rows] if columns else weights[rows]
            name = f"{product.inputs[1].name}_moved"
            product.replace_input_with(
                1, add_constant(self._model, np.ascontiguousarray(moved), name)
            )


def _is(node: ir.Node, op_type: str) -> bool:
    return node.op_type == op_type and not node.domain


def _perm_of(node: ir.Node) -> tuple[int, ...] | None:
    if "perm" in node.attributes:
        return tuple(node.attributes["perm"].as_ints())
    rank = _rank(node.inputs[0])
    return None if rank is None else tuple(reversed(range(rank)))


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _static(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and value.shape.is_static()


def _sizes(shape: Sequence[object]) -> list[int]:
    return [int(size) for size in shape]  # type: ignore[call-overload]


def _keeps(node: ir.Node) -> bool:
    return "keepdims" not in node.attributes or bool(node.attributes["keepdims"].as_int())


def _axes_of(node: ir.Node, rank: int) -> list[int] | None:
    """Return the axes of a reduction, or None if they are not constants."""
    if "axes" in node.attributes:
        return [axis % rank for axis in node.attributes["axes"].as_ints()]
    if len(node.inputs) < 2 or node.inputs[1] is None:
        noop = node.attributes.get("noop_with_empty_axes")
        return None if noop is not None and noop.as_int() else list(range(rank))
    axes = constant_of(node.inputs[1])
    return None if axes is None or not axes.size else [int(axis) % rank for axis in axes.ravel()]


def _in_order(perm: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether what a reduction leaves has the same order in both layouts."""
    left = [axis for place, axis in enumerate(perm) if place not in axes]
    return left == sorted(left)
