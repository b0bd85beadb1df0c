"""Pass *ExpandScan*: writes ``Scan`` as a ``Loop``.

Requires: *PrepareBodies*, and inferred ranks of outputs that are stacked along another axis than
the first. Ensures: no such ``Scan`` is left. An iteration gathers its slices of the scanned inputs,
from the end where the direction says so. The ``Scan`` of opset 8, which has a batch, becomes a loop
over the batch around a loop over time. Source: the schemas.
"""

from __future__ import annotations

import onnx_ir as ir

from mlopsc.importer.normalise.constants import body_of
from mlopsc.importer.normalise.subgraphs import all_graphs, inline, make_names_unique, replace
from mlopsc.importer.normalise.write import Writer

_BATCHED = 8  # the opset whose Scan has a batch


class ExpandScan(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every ``Scan``."""
        old = model.opset_imports.get("", 0) <= _BATCHED
        modified = False
        # Outer ones first; the copies of inner ones that they leave come in the next round.
        for node in [n for n in model.graph.all_nodes() if n.op_type == "Scan" and not n.domain]:
            if node.graph not in all_graphs(model) or (old and node.inputs[0] is not None):
                continue  # gone with an outer one; or lengths of sequences, for the check to refuse
            write = Writer(model, node.name)
            results = _expand_batch(node, write) if old else _expand(node, write)
            if results is None:
                continue
            write.put_before(node)
            replace(node, results)
            modified = True
        if modified:
            make_names_unique(model)
        return ir.passes.PassResult(model, modified)


def _integers(node: ir.Node, name: str, number: int) -> list[int]:
    found = node.attributes.get(name)
    return [0] * number if found is None else [int(v) for v in found.as_ints()]


def _expand(node: ir.Node, write: Writer) -> list[ir.Value] | None:
    """Return the values of the node's outputs, or None while a rank is missing."""
    body = body_of(node)
    scanned = node.attributes["num_scan_inputs"].as_int()
    carried = len(node.inputs) - scanned
    stacked = len(body.outputs) - carried
    backwards = _integers(node, "scan_input_directions", scanned)
    axes = _integers(node, "scan_input_axes", scanned)
    out_backwards = _integers(node, "scan_output_directions", stacked)
    out_axes = _integers(node, "scan_output_axes", stacked)
    ranks = [_rank(*pair) for pair in zip(node.outputs[carried:], body.outputs[carried:],
                                          strict=True)]  # fmt: skip
    if any(axis != 0 and rank is None for axis, rank in zip(out_axes, ranks, strict=True)):
        return None
    initial = [v for v in node.inputs[:carried] if v is not None]
    sources = [v for v in node.inputs[carried:] if v is not None]
    made = _iterate(write, body, initial, list(zip(sources, backwards, axes, strict=True)))
    return [
        *made[:carried],
        *(
            _lay(write, value, bool(backward), axis, rank)
            for value, backward, axis, rank in zip(
                made[carried:], out_backwards, out_axes, ranks, strict=True
            )
        ),
    ]


def _expand_batch(node: ir.Node, write: Writer) -> list[ir.Value]:
    """Return the values of a node of opset 8: a loop over the batch around one over time."""
    body = body_of(node)
    scanned = node.attributes["num_scan_inputs"].as_int()
    given = [v for v in node.inputs[1:] if v is not None]
    carried = len(given) - scanned
    backwards = _integers(node, "directions", scanned)
    batch = write("Gather", write("Shape", given[0]), write.constant(0), axis=0)
    outer = write.body()
    number = ir.Value(name=f"{write.name}_batch")
    each = [outer("Gather", value, number, axis=0) for value in given]
    sources = [(x, way, 0) for x, way in zip(each[carried:], backwards, strict=True)]
    made = _iterate(outer, body, each[:carried], sources)
    return write.loop(batch, [], (outer, [number], made), len(made))


def _iterate(
    write: Writer,
    body: ir.Graph,
    initial: list[ir.Value],
    sources: list[tuple[ir.Value, int, int]],
) -> list[ir.Value]:
    """Add a loop over ``sources`` (tensor, whether from its end, axis) and return its results."""
    first, _, axis = sources[0]
    count = write("Gather", write("Shape", first), write.constant(axis), axis=0)
    last = write("Sub", count, write.constant(1))
    inner = write.body()
    number = ir.Value(name=f"{write.name}_step")
    states = [ir.Value(name=f"{write.name}_state{k}") for k in range(len(initial))]
    slices = []
    for source, backward, axis in sources:
        step = inner("Sub", last, number) if backward else number
        slices.append(inner("Gather", source, step, axis=axis))
    # The nodes of the body go where a node stands; ``loop`` adds one more after them.
    anchor = ir.node("Identity", [number])
    holder = ir.Graph([], [], nodes=[*inner.nodes, anchor], name="scan")
    results = inline(anchor, body, [*states, *slices])
    inner.nodes = [n for n in holder if n is not anchor]
    holder.remove(list(holder))
    anchor.replace_input_with(0, None)
    stacks = len(results) - len(initial)
    return write.loop(count, initial, (inner, [number, *states], results), stacks)


def _rank(output: ir.Value, each: ir.Value) -> int | None:
    if output.shape is not None:
        return len(output.shape)
    return None if each.shape is None else len(each.shape) + 1


def _lay(write: Writer, value: ir.Value, backward: bool, axis: int, rank: int | None) -> ir.Value:
    """Return a stack in the wanted direction along the wanted axis."""
    if backward:
        value = write.reversed(value)
    if axis == 0 or rank is None:
        return value
    order = list(range(1, rank))
    order.insert(axis + rank if axis < 0 else axis, 0)
    return write("Transpose", value, perm=order)
