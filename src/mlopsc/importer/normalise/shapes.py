"""Pass *InferShapes*: types and static shapes of all values, those inside bodies included.

Requires: *PrepareBodies*. Ensures: a value whose shape follows from the inputs' has it, and none
has more elements than can be indexed. A carried value of a ``Loop`` has its initial shape inside
the body if one iteration, whatever its number, gives that shape again; otherwise nothing is said
about it. Source: ONNX's own inference, which does not let shapes into the bodies of loops; so each
body is inferred as a graph of its own.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from mlopsc.bodies import bodies, captured
from mlopsc.importer.normalise.constants import runs_to_the_end, trip_count
from mlopsc.importer.normalise.limits import check_ranges, check_sizes
from mlopsc.importer.normalise.subgraphs import all_graphs

_MAX_VECTOR = 1 << 20  # elements of a vector that may describe a shape
_MAX_ROUNDS = 16  # of a graph whose control flow nodes depend on each other


class InferShapes(ir.passes.InPlacePass):
    """See the module's docstring."""

    def __init__(self, *, inside: bool = False) -> None:
        """Infer a model, or the inside of a body, which may make no sense if it never runs."""
        super().__init__()
        self._inside = inside

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Infer the main graph and the bodies in turn until nothing is added."""
        modified = False
        seen: dict[ir.Node, list[object]] = {}
        for _ in range(_MAX_ROUNDS):
            modified |= _infer_graph(model, inside=self._inside)
            nodes = [node for node in model.graph if bodies(node)]
            stale = [node for node in nodes if seen.get(node) != _known(node)]
            news = [_infer_node(node, model) for node in stale]
            seen.update((node, _known(node)) for node in stale)
            if not any(news):
                break
            modified = True
        return ir.passes.PassResult(model, modified)


def _infer_graph(model: ir.Model, *, inside: bool) -> bool:
    """Infer the main graph; sizes are checked before ONNX computes shapes with them.

    The branch of an ``If`` that is not taken may come to negative sizes: they say nothing.

    Raises:
        OpenShapeError: A value has too many elements.
    """
    modified = _inferred(model, data_prop=False)
    for graph in all_graphs(model)[0 if inside else 1 :]:
        for value in (output for node in graph for output in node.outputs):
            if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
                value.shape = None
    check_ranges(model.graph.all_nodes())
    check_sizes(model.graph.inputs)
    check_sizes(output for node in model.graph.all_nodes() for output in node.outputs)
    vectors = [v for node in model.graph for v in node.outputs if v.shape and len(v.shape) == 1]
    # ONNX takes every vector for a shape and keeps a message for each of its elements.
    if all(not isinstance(v.shape[0], int) or v.shape[0] <= _MAX_VECTOR for v in vectors):
        modified |= _inferred(model, data_prop=True)
    return modified


def _inferred(model: ir.Model, *, data_prop: bool) -> bool:
    inference = common.ShapeInferencePass(check_type=True, strict_mode=False, data_prop=data_prop)
    return bool(inference(model).modified)


def _known(node: ir.Node) -> list[object]:
    """Return what inference inside the bodies of ``node`` starts from."""
    values = [*node.inputs, *(value for body in bodies(node) for value in captured(body))]
    return [None if v is None else (v.type, v.shape, v.const_value is None) for v in values]


def _infer_node(node: ir.Node, model: ir.Model) -> bool:
    """Infer the bodies of ``node``; return whether its outputs are now better known."""
    if node.op_type == "Loop":
        return _infer_loop(node, model)
    for body in bodies(node):
        _infer_body(body, model)
    if node.op_type != "If":
        return False
    branches = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    modified = False
    for output, one, other in zip(node.outputs, *(b.outputs for b in branches), strict=False):
        if one.shape is not None and one.shape == other.shape:
            modified |= _learn(output, one.type, one.shape)
    return modified


def _infer_loop(node: ir.Node, model: ir.Model) -> bool:
    body = node.attributes["body"].as_graph()
    initial = list(node.inputs[2:])
    for value, dtype in zip(body.inputs[:2], (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
        value.type, value.shape = ir.TensorType(dtype), ir.Shape([])
    carried = list(zip(initial, body.inputs[2:], body.outputs[1:], strict=False))
    assumed = []
    for before, inside, after in carried:
        if before is None or isinstance(before.type, ir.SequenceType | ir.OptionalType):
            continue
        inside.type, inside.shape = before.type or inside.type, None
        if before.shape is not None and before.shape.is_static():
            inside.shape = ir.Shape([int(d) for d in before.shape])
            assumed.append((inside, after))
    while True:
        _infer_body(body, model)
        wrong = [pair for pair in assumed if pair[1].shape != pair[0].shape]
        if not wrong:
            break
        for inside, _ in wrong:
            inside.shape = None
        assumed = [pair for pair in assumed if pair not in wrong]
    modified = False
    for output, (_, inside, after) in zip(node.outputs, carried, strict=False):
        modified |= _learn(output, after.type or inside.type, inside.shape)
    count = trip_count(node)
    scanned = zip(node.outputs[len(initial) :], body.outputs[1 + len(initial) :], strict=False)
    for output, each in scanned:
        shape = None
        if count is not None and runs_to_the_end(node) and each.shape is not None:
            shape = ir.Shape([count, *each.shape])
        modified |= _learn(output, each.type, shape)
    return modified


def _learn(value: ir.Value, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> bool:
    """Set what is known of ``value``; return whether that is news."""
    modified = False
    if value.type is None and kind is not None:
        value.type = kind
        modified = True
    if shape is not None and shape.is_static() and value.shape != shape:
        value.shape = ir.Shape([int(d) for d in shape])
        modified = True
    return modified


def _infer_body(body: ir.Graph, model: ir.Model) -> None:
    """Infer a copy of ``body`` that stands alone, constants included, and take over the shapes."""
    for node in body:
        for output in node.outputs:
            output.shape = None
    view = ir.GraphView(
        [*body.inputs, *captured(body)],
        body.outputs,
        nodes=list(body),
        opset_imports=dict(model.graph.opset_imports),
        name="body",
    )
    copy = view.clone()
    constants = [value for value in copy.inputs if value.const_value is not None]
    inputs = [value for value in copy.inputs if value.const_value is None]
    copy.inputs.clear()
    copy.inputs.extend(inputs)
    for value in constants:
        copy.register_initializer(value)
    InferShapes(inside=True)(ir.Model(copy, ir_version=model.ir_version or 10))
    for node, twin in zip(body.all_nodes(), copy.all_nodes(), strict=True):
        for ours, found in zip(node.outputs, twin.outputs, strict=True):
            ours.type, ours.shape = found.type, found.shape
        for graph, inferred in zip(bodies(node), bodies(twin), strict=True):
            for ours, found in zip(graph.inputs, inferred.inputs, strict=True):
                ours.type, ours.shape = found.type, found.shape
