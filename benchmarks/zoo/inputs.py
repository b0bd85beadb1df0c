"""What a model is fed with, and how many multiply-adds one run of it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

Array = np.ndarray[Any, Any]
_SMALL = 1024  # elements of an initializer that may decide a shape


def draw_inputs(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Return random inputs by name: floats are normal, integers rows of the tables they index.

    Those of 8 bits are quantised numbers, and anything. Other integers that index no table are 1,
    as masks are. Shapes are static.
    """
    graph, rng = model.graph, np.random.default_rng(seed)
    rows = {t.name: t.dims[0] for t in graph.initializer if t.dims}
    limits = {
        n.input[1]: rows[n.input[0]]
        for n in graph.node
        if n.op_type == "Gather" and n.input[0] in rows
    }
    known = {t.name for t in graph.initializer}
    drawn = {}
    for value in graph.input:
        if value.name in known:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind == "f":
            drawn[value.name] = rng.standard_normal(shape).astype(dtype)
        elif dtype.itemsize == 1 and dtype.kind in "iu":
            ends = np.iinfo(dtype)
            drawn[value.name] = rng.integers(ends.min, ends.max + 1, shape, dtype)
        elif value.name in limits:
            drawn[value.name] = rng.integers(0, limits[value.name], shape).astype(dtype)
        else:
            drawn[value.name] = np.ones(shape, dtype)
    return drawn


def multiply_adds(model: onnx.ModelProto) -> int:
    """Return the multiply-adds of convolutions, matrix products and recurrent layers of one run.

    Raises:
        ValueError: The shape of an operand cannot be inferred.
    """
    shapes = _shapes(model)
    return sum(_of_node(node, shapes) for node in model.graph.node)


def _of_node(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU"):
        return 0
    for name in (*node.input[:2], node.output[0]):
        if name not in shapes:
            raise ValueError(f"node '{node.name}' ({node.op_type}): '{name}' has no static shape")
    first, second, result = (
        shapes[name] for name in (node.input[0], node.input[1], node.output[0])
    )
    if node.op_type == "Conv":
        return int(np.prod(result)) * int(np.prod(second[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(first)) * int(np.prod(second[1:]))
    if node.op_type == "MatMul":
        return int(np.prod(result)) * first[-1]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return int(np.prod(result)) * first[0 if transposed else 1]
    directions, rows, size = second  # of W; R is [directions, rows, hidden]
    return first[0] * first[1] * directions * rows * (size + shapes[node.input[2]][2])


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the static shapes of all values."""
    bare = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = bare.graph
    graph.name = "shapes"
    graph.node.extend(model.graph.node)
    graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in model.graph.output)
    for tensor in model.graph.initializer:  # large ones count by their shapes alone
        if int(np.prod(tensor.dims)) <= _SMALL:
            graph.initializer.append(tensor)
        graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    known = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in known:
            graph.input.append(value)
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    return {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
        if all(d.dim_value > 0 for d in v.type.tensor_type.shape.dim)
    }
