"""Checks the normal form and reports what is odd but allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.bodies import bodies, captured
from mlopsc.bundle import pieces
from mlopsc.core_ops import CORE_OPS
from mlopsc.dtypes import BY_ONNX_CODE, DTYPES
from mlopsc.errors import MlopscError, OpenShapeError, UnsupportedOpError, raise_first
from mlopsc.importer.normalise.constants import body_of, ends_of, runs_to_the_end, trip_count
from mlopsc.importer.normalise.expansions.builder import Refusal
from mlopsc.importer.normalise.fixes import FIXES, STRINGS
from mlopsc.importer.normalise.limits import MAX_ELEMENTS, too_large
from mlopsc.importer.normalise.quantised_parts import kept_nodes
from mlopsc.importer.normalise.storage_types import computes_in
from mlopsc.importer.normalise.subgraphs import parents

# Positions of inputs that decide shapes, of operators that are folded or expanded where these are
# constants. Source: the op schemas.
SHAPE_INPUTS: Final[dict[str, tuple[int, ...]]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MelWeightMatrix": (0, 1),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceSumSquare": (1,),
    "STFT": (1, 3),
    "SequenceAt": (1,),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "SplitToSequence": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}
_DOCS = "'docs/core-ops.md' lists the operators that can be compiled"


def check_tensors(model: ir.Model) -> None:
    """Check that all inputs are dense tensors and have names of their own.

    Raises:
        UnsupportedOpError: One is a sequence, a map, optional or sparse, or a name occurs twice.
    """
    raise_first(_find_foreign_values(model))


def _find_foreign_values(model: ir.Model) -> Iterator[MlopscError]:
    names = [str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)]
    twice = sorted({name for name in names if names.count(name) > 1})
    for name in twice:
        yield UnsupportedOpError(
            f"'{name}' is the name of several inputs or outputs",
            hint="give every input and output a name of its own",
        )
    for value in model.graph.inputs:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            yield UnsupportedOpError(
                f"input '{value.name}' is of type {value.type}; expected a tensor",
                hint=f"say how many tensors it holds: --bind {value.name}=N",
            )


def check_normal_form(model: ir.Model, refusals: Mapping[ir.Node, Refusal]) -> None:
    """Check operators, element types and shapes.

    Args:
        model: What the passes made.
        refusals: Why operators outside the core set could not be rewritten.

    Raises:
        UnsupportedOpError: A node is outside the core set, or a tensor has a foreign type.
        OpenShapeError: A tensor's shape is not known.
    """
    raise_first(_find_problems(model, refusals))


def _find_problems(model: ir.Model, refusals: Mapping[ir.Node, Refusal]) -> Iterator[MlopscError]:
    """Yield what keeps ``model`` from the normal form; what only follows from it is left out."""
    kept = kept_nodes(model.graph)
    producers = [node for node in model.graph.all_nodes() if node not in kept]
    holders = parents(model)
    faulty: set[ir.Node] = set()
    inner = (value for body in holders for value in body.inputs)
    for value in (*model.graph.inputs, *inner):
        yield from _check_value(value)
    for node in producers:
        found = [*_check_node(node, holders, refusals.get(node)), *_check_bodies(node, holders)]
        problems = list(_at(node, found))
        if problems:
            faulty.add(node)
        yield from problems
    for node in producers:
        if node not in faulty and all(v is None or _is_static(v) for v in node.inputs):
            for value in node.outputs:
                if value.name:
                    yield from _at(node, _check_value(value))


def _check_node(
    node: ir.Node, holders: Mapping[ir.Graph, ir.Node], refusal: Refusal | None
) -> Iterator[MlopscError]:
    domain = "" if node.domain == "ai.onnx" else node.domain
    rule = CORE_OPS.get(f"{domain}::{node.op_type}" if domain else node.op_type)
    if refusal is not None:
        yield UnsupportedOpError(
            f"{_label(node)}: {refusal.reason}",
            hint=refusal.hint or f"rewrite the model without {node.op_type}; {_DOCS}",
            run_time_inputs=_sources(holders, refusal.value),
        )
        return
    open_inputs = list(open_shape_inputs(node))
    for index, value in open_inputs:
        yield UnsupportedOpError(
            f"{_label(node)}: input {index} ('{value.name}') is computed at run time; expected a "
            "constant, because it decides shapes",
            hint="make it a constant in the export",
            run_time_inputs=_sources(holders, value),
        )
    if rule is None:
        if not open_inputs:
            yield UnsupportedOpError(
                f"{_label(node)} uses an operator outside the core set",
                hint=FIXES.get(
                    (node.domain, node.op_type),
                    f"rewrite the model without {node.op_type}; {_DOCS}",
                ),
            )
        return
    for value in (*node.inputs, *node.outputs):
        if value is not None and not computes_in(node, value):
            yield UnsupportedOpError(
                f"{_label(node)} works on {value.dtype.name if value.dtype else '?'}; such "
                "elements can only be moved and cast",
                hint="cast its inputs to a wider type and its outputs back",
            )
    if rule.single_precision and any(v is not None and _is_double(v) for v in node.inputs):
        yield UnsupportedOpError(
            f"{_label(node)} works on DOUBLE; expected floats of at most 32 bits",
            hint="cast its inputs to FLOAT and its output back",
        )
    if len([o for o in node.outputs if o.name and (o.uses() or o.is_graph_output())]) > 1 and (
        rule.single_output
    ):
        yield UnsupportedOpError(f"{_label(node)}: only its first output can be compiled; {_DOCS}")


def _is_double(value: ir.Value) -> bool:
    return value.dtype is ir.DataType.DOUBLE


def _label(node: ir.Node) -> str:
    return f"node '{node.name}' ({_op_name(node)})"


def _op_name(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _at(node: ir.Node, problems: Iterable[MlopscError]) -> Iterator[MlopscError]:
    """Yield ``problems`` with the place they are at."""
    for problem in problems:
        problem.node, problem.op = node.name or "", _op_name(node)
        yield problem


def open_shape_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Yield position and value of the inputs that decide shapes and are no constants."""
    if node.domain not in ("", "ai.onnx"):
        return
    rule = CORE_OPS.get(node.op_type)
    for index in rule.constant_inputs if rule else SHAPE_INPUTS.get(node.op_type, ()):
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None and value.const_value is None:
            yield index, value


def _check_bodies(node: ir.Node, holders: Mapping[ir.Graph, ir.Node]) -> Iterator[MlopscError]:
    """Check that what a body returns has the same type and shape whatever runs."""
    label = _label(node)
    if node.op_type == "If":
        then, other = (node.attributes[n].as_graph() for n in ("then_branch", "else_branch"))
        for one, two in zip(then.outputs, other.outputs, strict=True):
            if _describe(one) != _describe(two) or not _is_tensor(one):
                yield UnsupportedOpError(
                    f"{label}: '{one.name}' is {_describe(one)} if its condition is true, else "
                    f"{_describe(two)}; expected equal types and static shapes",
                    hint="make its condition a constant, or both branches return one shape",
                    run_time_inputs=_sources(holders, node.inputs[0]),
                )
    if node.op_type == "Loop":
        body, number = body_of(node), len(node.inputs[2:])
        ends = (*ends_of(node), body.outputs[0])
        for inside, after in zip(body.inputs[2:], body.outputs[1:], strict=False):
            if _describe(inside) != _describe(after) or not _is_tensor(inside):
                yield UnsupportedOpError(
                    f"{label}: carried value '{inside.name}' is {_describe(inside)} before an "
                    f"iteration and {_describe(after)} after it; expected static shapes that stay",
                    hint="make the number of iterations a constant, or pad the value",
                    run_time_inputs=_sources(holders, *ends),
                )
        if ends_of(node) == (None, None):
            yield UnsupportedOpError(
                f"{label} never ends: it has no trip count and its condition is always true",
                hint="give it a trip count",
            )
        stacked = node.outputs[number:]
        if stacked and (trip_count(node) is None or not runs_to_the_end(node)):
            yield UnsupportedOpError(
                f"{label} stacks '{stacked[0].name}' over a number of iterations that only run "
                "time tells; expected a constant trip count and no other end",
                hint="make the trip count a constant, or carry a tensor of the largest size",
                run_time_inputs=_sources(holders, *ends),
            )


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _describe(value: ir.Value) -> str:
    if not _is_tensor(value):
        return str(value.type)
    return f"{value.dtype.name if value.dtype else 'unknown'}{value.shape or '?'}"


def _sources(holders: Mapping[ir.Graph, ir.Node], *values: ir.Value | None) -> tuple[str, ...]:
    """Return the inputs of the model that ``values`` are computed from."""
    found: dict[str, None] = {}
    pending, seen = [value for value in values if value is not None], set()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if current.is_graph_input():
            holder = holders.get(current.graph) if current.graph is not None else None
            if holder is None:
                found[str(current.name)] = None
            else:
                pending += _feeds(holder, current)
        producer = current.producer()
        if producer is not None:
            inner = (value for body in bodies(producer) for value in captured(body))
            pending += [value for value in (*producer.inputs, *inner) if value is not None]
    return tuple(found)


def _feeds(loop: ir.Node, inside: ir.Value) -> list[ir.Value]:
    """Return what an input of the body of ``loop`` can be."""
    body = body_of(loop)
    index = list(body.inputs).index(inside)
    after = [body.outputs[index - 1]] if index > 0 else []
    return [value for value in (loop.inputs[index], *after) if value is not None]


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _check_value(value: ir.Value) -> Iterator[MlopscError]:
    code = int(value.dtype.value) if value.dtype is not None else 0
    if code not in BY_ONNX_CODE:
        kind = value.dtype.name if value.dtype is not None else "unknown"
        is_string, is_input = kind == "STRING", value.producer() is None
        yield UnsupportedOpError(
            f"tensor '{value.name}' has element type {kind}; expected one of {', '.join(DTYPES)}",
            hint=STRINGS if is_string else "convert the model to one of these types",
            run_time_inputs=(str(value.name),) if is_string and is_input else (),
        )
    if not _is_static(value):
        yield OpenShapeError(
            f"the shape of tensor '{value.name}' is {value.shape} and cannot be computed; expected "
            "a shape that follows from the input shapes",
            hint="make what decides it a constant, or bind the dimension with --bind",
        )
        return
    sizes = [int(d) for d in value.shape or ()]
    problem = too_large(value)
    if problem is not None:
        yield problem
    if 0 in sizes and not _may_be_empty(value):
        yield OpenShapeError(
            f"tensor '{value.name}' has shape {sizes}; expected 1 to {MAX_ELEMENTS} elements",
            hint="bind its dimensions to other sizes with --bind, or change the model",
        )


def _may_be_empty(value: ir.Value) -> bool:
    """Whether ``value`` is an input that nothing reads, or an output that is a constant."""
    producer = value.producer()
    if producer is None:
        return not value.uses() and not value.is_graph_output()
    source = producer.inputs[0] if producer.inputs else None
    constant = source is not None and source.const_value is not None
    return producer.op_type == "Identity" and constant and value.is_graph_output()


def find_oddities(model: ir.Model) -> Iterator[str]:
    """Yield a line for every weight that is NaN or infinite."""
    for value in model.graph.initializers.values():
        if value.const_value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            continue
        counts = {"NaN": 0, "infinite": 0}
        for part in pieces(value.const_value):
            counts["NaN"] += int(np.isnan(part).sum())
            counts["infinite"] += int(np.isinf(part).sum())
        for what, count in counts.items():
            if count:
                size = value.const_value.size
                yield f"weight '{value.name}' holds {count} {what} of {size} values"
