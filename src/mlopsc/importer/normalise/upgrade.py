"""Step *upgrade_opset*: brings old models to an operator set that lowering knows.

Requires: no model-local functions. Ensures: ``ai.onnx`` has at least the wanted version; what old
versions kept in attributes (axes, pads, limits) are inputs. Source: ONNX's version converter.
"""

from __future__ import annotations

from typing import Final

import onnx
import onnx.version_converter
import onnx_ir as ir

from mlopsc.errors import SourceError

# From here on the meaning of operators has only grown.
OPSET: Final = 21
_LAST_AXIS_OPSET = 13  # softmaxes reduce one axis; before, all axes from the given one on
_BROADCAST_OPSET = 7  # operands broadcast as in NumPy; before, the second from an axis on
_BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"}
)
_RESIZE_OPSET = 11  # Resize names how it transforms coordinates; before, there was one way
_LARGE_BYTES = 1024  # larger weights are no shapes, axes or limits


def upgrade_opset(model: ir.Model, opset: int) -> ir.Model:
    """Convert through ONNX's own representation, with large weights set aside.

    Args:
        model: Is used up.
        opset: The version to reach.

    Raises:
        SourceError: The converter cannot.
    """
    version = model.opset_imports.setdefault("", opset)  # a model may use other sets only
    if version >= opset:
        return model
    if version < _LAST_AXIS_OPSET:
        _flatten_hardmax(model)
    resized = _resized(model) if version < _RESIZE_OPSET else set()
    axes = _take_axes(model) if version < _BROADCAST_OPSET else {}
    inputs = len(model.graph.inputs)
    weights = {name: v.const_value for name, v in model.graph.initializers.items()}
    try:
        _set_aside(model)
        proto = ir.to_proto(model)
        upgraded = ir.from_proto(onnx.version_converter.convert_version(proto, opset))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise SourceError(
            f"the graph has opset {version} and cannot be converted to {opset}: "
            f"{' '.join(str(error).split())[:300]}",
            hint=f"export the model with opset {opset} or newer",
        ) from error
    upgraded.graph.inputs[inputs:] = []  # `del` would leave them marked as inputs
    for name, tensor in weights.items():
        value = _find(upgraded.graph, name)
        if value is not None:
            value.const_value = tensor
            upgraded.graph.register_initializer(value)
    _keep_coordinates(upgraded, resized)
    if version < _BROADCAST_OPSET:
        _align_operands(upgraded, axes)
    upgraded.opset_imports.update(
        {d: v for d, v in model.opset_imports.items() if d not in upgraded.opset_imports}
    )
    upgraded.ir_version = model.ir_version
    return upgraded


def _flatten_hardmax(model: ir.Model) -> None:
    """Write the old ``Hardmax``, which the converter leaves as it is, over a flattened input."""
    for node in list(model.graph.all_nodes()):
        if node.op_type != "Hardmax" or node.domain or node.graph is None:
            continue
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        tape = ir.tape.Tape()
        shape = tape.op("Shape", [node.inputs[0]])
        flat = tape.op("Flatten", [node.inputs[0]], {"axis": axis})
        result = tape.op("Reshape", [tape.op("Hardmax", [flat], {"axis": 1}), shape])
        output = node.outputs[0]
        result.name, result.type, result.shape = output.name, output.type, output.shape
        ir.convenience.replace_nodes_and_values(
            node.graph, node, [node], list(tape.nodes), [output], [result]
        )


def _resized(model: ir.Model) -> set[str]:
    """Return the results of the old ``Resize`` and ``Upsample``."""
    nodes = (n for n in model.graph.all_nodes() if n.op_type in ("Resize", "Upsample"))
    return {str(node.outputs[0].name) for node in nodes if not node.domain}


def _keep_coordinates(model: ir.Model, resized: set[str]) -> None:
    """Say in attributes how old resizing transforms coordinates; the converter leaves it open."""
    for node in model.graph.all_nodes():
        if node.op_type != "Resize" or str(node.outputs[0].name) not in resized:
            continue
        scales = node.inputs[2].const_value if node.inputs[2] is not None else None
        shrinks = scales is not None and (scales.numpy() <= 1).all() and (scales.numpy() < 1).any()
        node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
        node.attributes.add(ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))


def _take_axes(model: ir.Model) -> dict[str, int]:
    """Return at which axis the second operand of old broadcasting nodes starts, by result.

    The attribute is taken away: the converter reads it as if operands were matrices.
    """
    axes = {}
    for node in model.graph.all_nodes():
        if not node.domain and node.op_type in _BROADCASTING and "axis" in node.attributes:
            axis = node.attributes.pop("axis").as_int()
            if axis >= 0:
                axes[str(node.outputs[0].name)] = axis
    return axes


def _align_operands(model: ir.Model, axes: dict[str, int]) -> None:
    """Give second operands that start at an axis the shape that broadcasts there.

    The slopes of ``PRelu`` start at axis 1.
    """
    for node in list(model.graph.all_nodes()):
        if node.domain or node.graph is None:
            continue
        axis = 1 if node.op_type == "PRelu" else axes.get(str(node.outputs[0].name))
        if axis is None:
            continue
        x, operand = node.inputs
        tape = ir.tape.Tape()

        def vector(number: int, tape: ir.tape.Tape = tape) -> ir.Value:
            return tape.op("Constant", [], {"value_ints": [number]})

        own = vector(-1) if node.op_type == "PRelu" else tape.op("Shape", [operand])
        rank = tape.op("Shape", [tape.op("Shape", [x])])
        covered = tape.op("Add", [vector(axis), tape.op("Shape", [own])])
        beyond = tape.op("Max", [tape.op("Sub", [rank, covered]), vector(0)])
        shape = tape.op("Concat", [own, tape.op("Expand", [vector(1), beyond])], {"axis": 0})
        node.replace_input_with(1, tape.op("Reshape", [operand, shape]))
        node.graph.insert_before(node, list(tape.nodes))


def _set_aside(model: ir.Model) -> None:
    """Make every initializer an input, too, and take the data of the large ones away."""
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        value.shape, value.dtype = ir.Shape(tensor.shape), tensor.dtype
        model.graph.inputs.append(value)
        if tensor.nbytes > _LARGE_BYTES:
            del model.graph.initializers[name]
            value.const_value = None


def _find(graph: ir.Graph, name: str) -> ir.Value | None:
    """Return the value called ``name`` that something uses."""
    if name in graph.initializers:
        return graph.initializers[name]
    for value in graph.inputs:
        if value.name == name:
            return value
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is not None and value.name == name:
                return value
    return None
