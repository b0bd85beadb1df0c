"""Pass *FoldConstants*: computes everything that depends on no input, with the reference runtime.

Requires: inferred shapes, *PrepareBodies*. Ensures: no node, inside bodies too, has only constant
inputs, and the shape of a tensor with a static shape is a constant. Left alone are nodes that draw
random numbers, ``Range`` (its expansion folds it), what would be large, and loops that run long or
for an unknown time.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from mlopsc.bodies import bodies, captured
from mlopsc.bundle import detach
from mlopsc.errors import SourceError
from mlopsc.importer.normalise.constants import constant_of, scalar_of, trip_count
from mlopsc.importer.normalise.subgraphs import release_bodies
from mlopsc.importer.normalise.write import add_constant, new_constant
from mlopsc.reference import Reference

_RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
MAX_TRIPS = 1 << 16  # of a loop that is run at import, inner loops included
MAX_FOLDED_BYTES = 1 << 28  # of one tensor: beyond this a constant is no gain


class FoldConstants(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold once; new constants may allow another round after shape inference."""
        modified = False
        graphs = [model.graph]
        while graphs:
            graph = graphs.pop(0)
            modified |= self._fold(model, graph)
            # A branch that is never taken may come to nothing that makes sense.
            open_nodes = (n for n in graph if n.op_type != "If" or scalar_of(n.inputs[0]) is None)
            graphs += [body for node in open_nodes for body in bodies(node)]
        return ir.passes.PassResult(model, modified)

    def _fold(self, model: ir.Model, graph: ir.Graph) -> bool:
        modified = _fold_shapes(model.graph, graph)
        _flatten_limits(model, graph)
        constant = {id(v) for v in model.graph.initializers.values()}
        foldable = []
        for node in graph:
            if _can_fold(node, constant):
                foldable.append(node)
                constant.update(id(o) for o in node.outputs)
        if not foldable:
            return modified
        folded = {id(n) for n in foldable}
        frontier = [
            o
            for node in foldable
            for o in node.outputs
            if o.is_graph_output() or any(id(u) not in folded for u, _ in o.uses())
        ]
        if frontier:
            for value, array in zip(frontier, _compute(model, foldable, frontier), strict=True):
                replace_by_constant(model.graph, graph, value, array)
        graph.remove(foldable, safe=True)
        for node in foldable:
            release_bodies(node)
        return True


def _can_fold(node: ir.Node, constant: set[int]) -> bool:
    if node.op_type == "DequantizeLinear":
        return False  # integers may compute with the constant as it is; else it is expanded
    if node.op_type == "Range" or not _can_run(node):  # the runtime lacks some types of Range
        return False
    if node.op_type == "Identity" and node.outputs[0].is_graph_output():
        return False  # what is left of a constant output
    if any(_bytes(o) > MAX_FOLDED_BYTES for o in node.outputs):
        return False
    inner = (value for body in bodies(node) for value in captured(body))
    return all(v is None or id(v) in constant for v in (*node.inputs, *inner))


def _can_run(node: ir.Node) -> bool:
    """Whether ``node`` gives tensors, and its bodies run for a short time and draw nothing."""
    trips = 1
    for inner in (node, *(n for body in bodies(node) for n in body.all_nodes())):
        if inner.op_type in _RANDOM:
            return False
        if inner.op_type == "Loop":
            count = trip_count(inner)
            trips *= MAX_TRIPS if count is None else max(1, count)
    return trips < MAX_TRIPS and all(_is_tensor(output) for output in node.outputs)


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _bytes(value: ir.Value) -> int:
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return math.prod(int(d) for d in value.shape) * 8


def _flatten_limits(model: ir.Model, graph: ir.Graph) -> None:
    """Make the limits of ``Range`` scalars: ONNX's own functions give it tensors of one element."""
    for node in graph:
        for index, value in enumerate(node.inputs if node.op_type == "Range" else ()):
            array = constant_of(value)
            if array is not None and array.size == 1 and array.ndim:
                name = f"{value.name}_scalar" if value is not None else "scalar"
                node.replace_input_with(index, add_constant(model, array.reshape(()), name))


def _fold_shapes(main: ir.Graph, graph: ir.Graph) -> bool:
    """Replace ``Shape`` and ``Size`` of statically shaped values by constants."""
    modified = False
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        if node.op_type not in ("Shape", "Size") or value is None or value.shape is None:
            continue
        if not value.shape.is_static():
            continue
        sizes = np.array([int(d) for d in value.shape], dtype=np.int64)
        start = node.attributes["start"].as_int() if "start" in node.attributes else 0
        end = node.attributes["end"].as_int() if "end" in node.attributes else None
        result = sizes[start:end] if node.op_type == "Shape" else np.prod(sizes, dtype=np.int64)
        replace_by_constant(main, graph, node.outputs[0], np.asarray(result))
        graph.remove(node, safe=True)
        modified = True
    return modified


def _compute(
    model: ir.Model, nodes: list[ir.Node], frontier: list[ir.Value]
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """Run the constant part of the graph and return the values of ``frontier``."""
    clones: dict[int, ir.Value] = {}
    initializers = []
    for node in nodes:
        inner = (value for body in bodies(node) for value in captured(body))
        for value in (*node.inputs, *inner):
            if value is not None and value.const_value is not None and id(value) not in clones:
                clone = ir.Value(
                    name=value.name,
                    const_value=value.const_value,
                    shape=value.shape,
                    type=value.type,
                )
                clones[id(value)] = clone
                initializers.append(clone)
    copies = []
    for node in nodes:
        copy = ir.Node(
            node.domain,
            node.op_type,
            [None if v is None else clones[id(v)] for v in node.inputs],
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
            version=node.version,
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            clones[id(old)] = new
        copies.append(copy)
    part = ir.Graph(
        [],
        [clones[id(v)] for v in frontier],
        nodes=copies,
        initializers=initializers,
        opset_imports=dict(model.graph.opset_imports),
        name="constants",
    )
    stage = detach(ir.Model(part, ir_version=min(model.ir_version or 10, 10)), "model")
    try:
        results = Reference([stage]).run({})
    except SourceError:  # the runtime does less than the specification: reductions of nothing
        results = Reference([stage], specification=True).run({})
    return [np.asarray(results[str(v.name)]) for v in frontier]


def replace_by_constant(
    main: ir.Graph, graph: ir.Graph, value: ir.Value, array: np.ndarray
) -> None:
    """Let the users of ``value``, which is in ``graph``, use a new constant of ``main``."""
    constant = new_constant(main, array, f"{value.name}_folded")
    for index, other in enumerate(graph.outputs):
        if other is value:  # an output must stay the output of a node
            node = ir.Node("", "Identity", [constant])
            output = node.outputs[0]
            output.type, output.shape = value.type, value.shape
            output.name, value.name = value.name, f"{value.name}_unfolded"
            graph.outputs[index] = output
            graph.append(node)
    ir.convenience.replace_all_uses_with(value, constant)
