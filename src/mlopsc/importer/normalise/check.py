"""Checks the normal form and reports what is odd but allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from mlopsc.bodies import bodies, captured
from mlopsc.core_ops import CORE_OPS
from mlopsc.dtypes import BY_ONNX_CODE, DTYPES
from mlopsc.errors import OpenShapeError, UnsupportedOpError
from mlopsc.importer.normalise.constants import body_of, runs_to_the_end, trip_count
from mlopsc.importer.normalise.expansions.builder import Refusal
from mlopsc.importer.normalise.subgraphs import parents

MAX_ELEMENTS = (1 << 31) - 1  # indices are 32 bits wide
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_DOCS = "'docs/core-ops.md' lists the operators that can be compiled"


def check_tensors(model: ir.Model) -> None:
    """Check that all inputs and outputs are dense tensors.

    Raises:
        UnsupportedOpError: One is a sequence, a map, optional or sparse, or shares its name.
    """
    names = [str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnsupportedOpError(
            f"'{twice[0]}' is the name of several inputs or outputs",
            hint="give every input and output a name of its own",
        )
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise UnsupportedOpError(
                f"'{value.name}' is of type {value.type}; expected a tensor",
                hint="export the model with plain tensors as inputs and outputs",
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
    producers = list(model.graph.all_nodes())
    holders = parents(model)
    for node in producers:
        _check_node(node, holders, refusals.get(node))
        _check_bodies(node, holders)
    inner = (value for body in holders for value in body.inputs)
    outer = (value for node in producers for value in node.outputs if value.name)
    for value in (*model.graph.inputs, *outer, *inner):
        _check_value(value)


def _check_node(
    node: ir.Node, holders: Mapping[ir.Graph, ir.Node], refusal: Refusal | None
) -> None:
    label = f"node '{node.name}' ({node.domain + '::' if node.domain else ''}{node.op_type})"
    rule = CORE_OPS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None and refusal is not None:
        raise UnsupportedOpError(
            f"{label}: {refusal.reason}",
            hint=f"rewrite the model without {node.op_type}; {_DOCS}",
            run_time_inputs=_sources(holders, refusal.value),
        )
    if rule is None:
        raise UnsupportedOpError(
            f"{label} uses an operator outside the core set",
            hint=f"rewrite the model without {node.op_type}; {_DOCS}",
        )
    first = node.inputs[0] if node.inputs else None
    if rule.float_only and first is not None and first.dtype not in _FLOATS:
        raise UnsupportedOpError(
            f"{label} works on {first.dtype.name if first.dtype else 'an unknown type'}; only "
            "floating-point types can be compiled",
            hint="cast its inputs to float and its output back",
        )
    for index in rule.constant_inputs:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None and value.const_value is None:
            raise UnsupportedOpError(
                f"{label}: input {index} ('{value.name}') is computed at run time; expected a "
                "constant, because it decides shapes",
                hint="make it a constant in the export",
                run_time_inputs=_sources(holders, value),
            )
    if len([o for o in node.outputs if o.name and (o.uses() or o.is_graph_output())]) > 1 and (
        rule.single_output
    ):
        raise UnsupportedOpError(f"{label}: only its first output can be compiled; {_DOCS}")


def _check_bodies(node: ir.Node, holders: Mapping[ir.Graph, ir.Node]) -> None:
    """Check that what a body returns has the same type and shape whatever runs."""
    label = f"node '{node.name}' ({node.op_type})"
    if node.op_type == "If":
        then, other = (node.attributes[n].as_graph() for n in ("then_branch", "else_branch"))
        for one, two in zip(then.outputs, other.outputs, strict=True):
            if _describe(one) != _describe(two):
                raise UnsupportedOpError(
                    f"{label}: '{one.name}' is {_describe(one)} if its condition is true, else "
                    f"{_describe(two)}; expected equal types and static shapes",
                    hint="make its condition a constant, or both branches return one shape",
                    run_time_inputs=_sources(holders, node.inputs[0]),
                )
    if node.op_type == "Loop":
        body, number = body_of(node), len(node.inputs) - 2
        ends = (node.inputs[0], node.inputs[1], body.outputs[0])
        for inside, after in zip(body.inputs[2:], body.outputs[1:], strict=False):
            if _describe(inside) != _describe(after):
                raise UnsupportedOpError(
                    f"{label}: carried value '{inside.name}' is {_describe(inside)} before an "
                    f"iteration and {_describe(after)} after it; expected static shapes that stay",
                    hint="make the number of iterations a constant, or pad the value",
                    run_time_inputs=_sources(holders, *ends),
                )
        if node.inputs[0] is None and node.inputs[1] is None:
            raise UnsupportedOpError(
                f"{label} never ends: it has no trip count and its condition is always true",
                hint="give it a trip count",
            )
        stacked = node.outputs[number:]
        if stacked and (trip_count(node) is None or not runs_to_the_end(node)):
            raise UnsupportedOpError(
                f"{label} stacks '{stacked[0].name}' over a number of iterations that only run "
                "time tells; expected a constant trip count and no other end",
                hint="make the trip count a constant, or carry a tensor of the largest size",
                run_time_inputs=_sources(holders, *ends),
            )


def _describe(value: ir.Value) -> str:
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


def _check_value(value: ir.Value) -> None:
    code = int(value.dtype.value) if value.dtype is not None else 0
    if code not in BY_ONNX_CODE:
        kind = value.dtype.name if value.dtype is not None else "unknown"
        raise UnsupportedOpError(
            f"tensor '{value.name}' has element type {kind}; expected one of {', '.join(DTYPES)}",
            hint="convert the model to one of these types",
        )
    if value.shape is None or not value.shape.is_static():
        raise OpenShapeError(
            f"the shape of tensor '{value.name}' is {value.shape} and cannot be computed; expected "
            "a shape that follows from the input shapes",
            hint="make what decides it a constant, or bind the dimension with --bind",
        )
    sizes = [int(d) for d in value.shape]
    if 0 in sizes or math.prod(sizes) > MAX_ELEMENTS:
        raise OpenShapeError(
            f"tensor '{value.name}' has shape {sizes}; expected 1 to {MAX_ELEMENTS} elements",
            hint="bind its dimensions to other sizes with --bind, or change the model",
        )


def find_oddities(model: ir.Model) -> Iterator[str]:
    """Yield a line for every weight that is NaN or infinite."""
    for value in model.graph.initializers.values():
        if value.const_value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            continue
        array = value.const_value.numpy()
        for count, what in (
            (int(np.isnan(array).sum()), "NaN"),
            (int(np.isinf(array).sum()), "infinite"),
        ):
            if count:
                yield f"weight '{value.name}' holds {count} {what} of {array.size} values"
