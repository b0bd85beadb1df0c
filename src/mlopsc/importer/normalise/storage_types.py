"""Pass *StorageTypes*: lets every operator compute in a type that it is computed in.

Requires: inferred types. Ensures: floats of 16 bits and less and integers of 4 and 2 bits stand
only at ``Cast`` and at operators that move elements; an operator that the reference runtime has no
kernel for in some integer type works in a wider one. The casts keep every value: small floats
compute in float32 and are rounded after each operator, as ONNX defines; integers come back modulo
their width, so that they wrap. Booleans are ordered as uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx
import onnx_ir as ir

from mlopsc.bodies import bodies
from mlopsc.dtypes import BY_ONNX_CODE, SMALL
from mlopsc.importer.normalise.quantised_parts import QUANTISED_OPS
from mlopsc.importer.normalise.subgraphs import all_graphs
from mlopsc.reference import kernel_types

# Operators that move elements without computing; they work on representations.
MOVING: Final[frozenset[str]] = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
        "Identity", "Pad", "Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip
# These take any type and need no change.
UNTOUCHED: Final[frozenset[str]] = frozenset(
    {"BitCast", "Cast", "If", "Loop", "Scan", "Shape", *QUANTISED_OPS}
)
_T = ir.DataType
_WIDER: Final[dict[ir.DataType, tuple[ir.DataType, ...]]] = {
    _T.BOOL: (_T.UINT8, _T.INT32),
    _T.INT2: (_T.INT8, _T.INT32, _T.INT64),
    _T.INT4: (_T.INT8, _T.INT32, _T.INT64),
    _T.INT8: (_T.INT32, _T.INT64),
    _T.INT16: (_T.INT32, _T.INT64),
    _T.INT32: (_T.INT64,),
    _T.UINT2: (_T.UINT8, _T.INT32, _T.INT64),
    _T.UINT4: (_T.UINT8, _T.INT32, _T.INT64),
    _T.UINT8: (_T.INT32, _T.INT64),
    _T.UINT16: (_T.INT32, _T.INT64),
    _T.UINT32: (_T.INT64,),
}
# The same modulo 2^64 in either type.
_MODULAR: Final[frozenset[str]] = frozenset(
    {"Add", "CumSum", "Einsum", "MatMul", "Mul", "Neg", "ReduceProd", "ReduceSum", "Sub", "Where",
     "CumProd", "Gemm", "Pad", "Trilu", "ScatterND", "ScatterElements"}
)  # fmt: skip


class StorageTypes(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Put casts around the operators that need them."""
        modified = False
        for graph in all_graphs(model):
            for node in list(graph):
                if node.op_type == "Cast":
                    modified |= _truncate_first(graph, node)
                elif node.op_type not in UNTOUCHED and not bodies(node):
                    modified |= _widen(model, graph, node)
        return ir.passes.PassResult(model, modified)


def computes_in(node: ir.Node, value: ir.Value) -> bool:
    """Whether ``node`` may take or give ``value`` as it is."""
    small = value.dtype is not None and _is_small(value.dtype)
    return not small or node.op_type in MOVING or node.op_type in UNTOUCHED


def _is_small(dtype: ir.DataType) -> bool:
    known = BY_ONNX_CODE.get(int(dtype.value))
    return known is not None and known.name in SMALL


def _truncate_first(graph: ir.Graph, node: ir.Node) -> bool:
    """Cast floats to 4 and 2 bits through int32: ONNX truncates, the reference would round."""
    value = node.inputs[0]
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    if _T(node.attributes["to"].as_int()) not in (_T.INT4, _T.UINT4, _T.INT2, _T.UINT2):
        return False
    cast = _cast(value, _T.INT32)
    graph.insert_before(node, cast)
    node.replace_input_with(0, cast.outputs[0])
    return True


def _widen(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    version = node.version or model.opset_imports.get(node.domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return False
    kernels = kernel_types(node.domain, node.op_type, schema.since_version)
    chosen: dict[str, ir.DataType] = {}
    for parameter, value in _typed(schema.inputs, node.inputs):
        if value.dtype is None or parameter in chosen:
            continue
        allowed = None if kernels is None else kernels.get(parameter)
        wide = _choose(node, value.dtype, allowed)
        if wide is not None:
            chosen[parameter] = wide
    for parameter, value in _typed(schema.outputs, node.outputs):
        if parameter not in chosen and not computes_in(node, value):
            chosen[parameter] = _T.FLOAT
    if not chosen:
        return False
    for index, (parameter, value) in enumerate(_slots(schema.inputs, node.inputs)):
        if value is not None and parameter in chosen:
            cast = _cast(value, chosen[parameter])
            graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
    for parameter, value in _typed(schema.outputs, node.outputs):
        if parameter in chosen and value.dtype is not None:
            _cast_back(graph, node, value, chosen[parameter])
    return True


def _choose(
    node: ir.Node, dtype: ir.DataType, allowed: frozenset[str] | None
) -> ir.DataType | None:
    """Return the type that ``dtype`` is computed in, or None if it stays."""
    if dtype == _T.BOOL and _orders(node):
        return _T.UINT8
    moves = node.op_type in MOVING
    small = _is_small(dtype)
    if (moves or not small) and (allowed is None or dtype.name.lower() in allowed):
        return None
    if dtype.is_floating_point():
        return _T.FLOAT if small else None
    wider = _WIDER.get(dtype, ())
    if dtype == _T.UINT64 and node.op_type in _MODULAR:
        wider = (_T.INT64,)
    for candidate in wider:
        if allowed is None or candidate.name.lower() in allowed:
            return candidate
    return None


def _orders(node: ir.Node) -> bool:
    """Whether ``node`` is a scatter that compares elements: the reference's compare no booleans."""
    scatters = node.op_type in ("ScatterElements", "ScatterND")
    how = node.attributes["reduction"].as_string() if "reduction" in node.attributes else "none"
    return scatters and how in ("max", "min")


def _slots(
    formal: Sequence[onnx.defs.OpSchema.FormalParameter], values: Sequence[ir.Value | None]
) -> list[tuple[str, ir.Value | None]]:
    """Return each value with its type parameter; the last formal one may stand for many."""
    return [(formal[min(i, len(formal) - 1)].type_str, v) for i, v in enumerate(values) if formal]


def _typed(
    formal: Sequence[onnx.defs.OpSchema.FormalParameter], values: Sequence[ir.Value | None]
) -> list[tuple[str, ir.Value]]:
    return [(p, v) for p, v in _slots(formal, list(values)) if v is not None and "(" not in p]


def _cast(value: ir.Value, dtype: ir.DataType) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(dtype.value)})
    output = cast.outputs[0]
    output.type, output.shape = ir.TensorType(dtype), value.shape
    return cast


def _cast_back(graph: ir.Graph, node: ir.Node, value: ir.Value, wide: ir.DataType) -> None:
    """Let ``node`` give ``value`` in a wide type, and all that use it take the cast."""
    dtype = value.dtype
    if dtype is None:
        return
    cast = _cast(value, dtype)
    output = cast.outputs[0]
    graph.insert_after(node, cast)
    for user, index in tuple(value.uses()):
        if user is not cast:
            user.replace_input_with(index, output)
    for index, other in enumerate(graph.outputs):
        if other is value:
            graph.outputs[index] = output
    output.name, value.name = value.name, f"{value.name}_wide"
    value.type = ir.TensorType(wide)
