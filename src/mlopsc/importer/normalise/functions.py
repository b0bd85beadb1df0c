"""Pass *ExpandFunctions*: writes operators that ONNX defines as functions as their bodies.

Requires: inferred types (bodies may depend on them), no model-local functions. Ensures: a function
of ONNX's operator sets stays only if it is a core operator or has an expansion of its own, or if
its body cannot be had; then a refusal says why. Source: the function bodies of the op schemas. Each
node is expanded by itself, so that one that cannot be does not keep the others from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from mlopsc.bodies import bodies, captured
from mlopsc.core_ops import CORE_OPS
from mlopsc.importer.normalise.expand import Refusals
from mlopsc.importer.normalise.expansions import EXPANSIONS
from mlopsc.importer.normalise.expansions.builder import Refusal
from mlopsc.importer.normalise.subgraphs import PrepareBodies

_DOMAIN = "mlopsc.functions"  # of the bodies while they wait to be inlined


class ExpandFunctions(ir.passes.InPlacePass):
    """See the module's docstring."""

    def __init__(self, refusals: Refusals) -> None:
        """Write into ``refusals`` why a node is left."""
        super().__init__()
        self._refusals = refusals

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Attach a body to every node that needs one, and inline them all."""
        found = 0
        for node in list(model.graph.all_nodes()):
            schema = _schema(node, model)
            if schema is None:
                continue
            try:
                function = _body(node, schema, model)
            except Refusal as refusal:
                self._refusals.setdefault(node, refusal)
                continue
            name = f"{node.op_type}_{found}"
            found += 1
            function.domain, function.name, function.overload = _DOMAIN, name, ""
            _pass_attributes(node, schema, function)
            for index, output in enumerate(node.outputs):  # what stands for it has a name
                output.name = output.name or f"{node.outputs[0].name}_unused_{index}"
            node.domain, node.op_type, node.overload = _DOMAIN, name, ""
            model.functions[function.identifier()] = function
        if found:
            model.opset_imports[_DOMAIN] = 1
            common.InlinePass()(model)
            del model.opset_imports[_DOMAIN]
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            PrepareBodies()(model)
        return ir.passes.PassResult(model, bool(found))


def _schema(node: ir.Node, model: ir.Model) -> Any:
    """Return the schema of an operator that is a function and nothing we know by itself."""
    key = (node.domain, node.op_type)
    if key in EXPANSIONS or (not node.domain and node.op_type in CORE_OPS):
        return None
    try:
        schema: Any = onnx.defs.get_schema(
            node.op_type, model.opset_imports.get(node.domain, 1), node.domain
        )
    except onnx.defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def _body(node: ir.Node, schema: Any, model: ir.Model) -> ir.Function:
    """Return the body that the schema gives for ``node`` at the model's version."""
    opset = model.opset_imports.get("", 1)
    if schema.has_function:
        versions = schema.function_opset_versions
        get = schema.get_function_with_opset_version
    else:
        versions = schema.context_dependent_function_opset_versions
        if any(v is not None and v.type is None for v in node.inputs):
            raise Refusal("the type of an input is not known")
        proto = ir.to_proto(node).SerializeToString()
        types = [_type(v) for v in node.inputs]

        def get(version: int) -> bytes:
            return bytes(
                schema.get_context_dependent_function_with_opset_version(version, proto, types)
            )

    usable = [v for v in versions if v <= opset or node.domain]
    if not usable:
        raise Refusal(f"its definition needs version {min(versions)} of the operator set")
    try:
        text = get(max(usable))
    except (RuntimeError, ValueError) as error:
        raise Refusal(f"its definition cannot be had: {' '.join(str(error).split())}") from error
    if not text:
        raise Refusal("ONNX gives no definition for these inputs and attributes")
    body = onnx.FunctionProto.FromString(text)
    _check_versions(body, opset)
    _fit(body, node)
    for entry in body.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    return ir.from_proto(body)


def _fit(body: onnx.FunctionProto, node: ir.Node) -> None:
    """Give ``body`` the outputs that ``node`` has, and only the attributes that it refers to.

    ONNX leaves outputs out that the node does not have; a copy of an input stands in for them.
    """
    del body.output[len(node.outputs) :]
    made = {name for inner in body.node for name in inner.output} | set(body.input)
    for index, name in enumerate(body.output):
        if name not in made:
            if node.outputs[index].name:
                raise Refusal(f"ONNX's definition gives no output {index}")
            body.node.append(onnx.helper.make_node("Identity", [body.input[0]], [name]))
    _pass_captured(body, node, made)
    used = set(_references(body.node))
    kept = [name for name in body.attribute if name in used]
    body.attribute[:] = kept


def _pass_captured(body: onnx.FunctionProto, node: ir.Node, made: set[str]) -> None:
    """Make what graphs among the attributes capture, and ``body`` now uses, inputs of both."""
    captures = {str(v.name): v for graph in bodies(node) for v in captured(graph)}
    for name in dict.fromkeys(name for inner in body.node for name in inner.input):
        if name in captures and name not in made:
            node.resize_inputs(len(body.input) + 1)
            node.replace_input_with(len(body.input), captures[name])
            body.input.append(name)


def _references(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                yield attribute.ref_attr_name
            for graph in (*attribute.graphs, attribute.g):
                yield from _references(graph.node)


def _type(value: ir.Value | None) -> bytes:
    """Return the type as ONNX's function builders read it; an input left out has none."""
    proto = onnx.TypeProto()
    if value is not None:
        info = ir.to_proto(value)
        proto.CopyFrom(info.type)
    return bytes(proto.SerializeToString())


def _check_versions(body: onnx.FunctionProto, opset: int) -> None:
    """Make sure that every node of the body also reads as meant at the model's version."""
    for node in body.node:
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        except onnx.defs.SchemaError:
            continue
        unknown = [a.name for a in node.attribute if a.name not in schema.attributes]
        if unknown or len(node.input) > schema.max_input:
            raise Refusal(
                f"its definition uses another version of {node.op_type} than operator set {opset}"
            )


def _pass_attributes(node: ir.Node, schema: Any, function: ir.Function) -> None:
    """Leave the attributes that the body refers to, with the schema's defaults."""
    for name in list(node.attributes):
        if name not in function.attributes:
            node.attributes.pop(name)
    for name in function.attributes:
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if name not in node.attributes and default is not None and default.name:
            node.attributes.add(ir.from_proto(default))
