"""Makes stages of the quantisation of inputs and outputs: packages take and give real values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlopsc.frontends.onnx_names import rename_values
from mlopsc.frontends.tflite.convert import OPSET
from mlopsc.frontends.tflite.file import Tensor, TfliteFile
from mlopsc.schema.export import MODEL_FILE, POSTPROCESS_FILE, PREPROCESS_FILE


@dataclass(frozen=True)
class Ends:
    """Stages around the model, if there are any, and what they do."""

    preprocess: Path | None
    postprocess: Path | None
    preprocessing: tuple[str, ...]
    postprocessing: tuple[str, ...]


def split_ends(file: TfliteFile, folder: Path) -> Ends:
    """Write a stage in front of the model in ``folder`` and one behind it, where it is quantised.

    Inputs and outputs keep their names; those of the model get ``_int8`` or the like behind them.
    """
    path = folder / MODEL_FILE
    model = onnx.load(path)
    before = _stage(model.graph.input, file.inputs, folder / PREPROCESS_FILE, "QuantizeLinear")
    after = _stage(model.graph.output, file.outputs, folder / POSTPROCESS_FILE, "DequantizeLinear")
    renamed = {
        value.name: _inner(tensor)
        for stage, tensors in ((before, file.inputs), (after, file.outputs))
        if stage
        for tensor in tensors
        for value in (*model.graph.input, *model.graph.output)
        if value.name == tensor.name
    }
    rename_values(model.graph, renamed)
    onnx.save_model(model, path)
    return Ends(
        before,
        after,
        tuple(_words(t, "real values -> {0}") for t in file.inputs if before and t.scale),
        tuple(_words(t, "{0} -> real values") for t in file.outputs if after and t.scale),
    )


def _inner(tensor: Tensor) -> str:
    return f"{tensor.name}_{tensor.dtype}"


def _words(tensor: Tensor, what: str) -> str:
    return (
        f"{tensor.name}: {what.format(tensor.dtype)}, scale {tensor.scale:.6g}, zero point "
        f"{tensor.zero_point}"
    )


def _stage(values: Any, tensors: Sequence[Tensor], path: Path, op: str) -> Path | None:
    """Write the stage that quantises or dequantises; None if nothing is quantised."""
    if not any(t.scale for t in tensors):
        return None
    inward = op == "QuantizeLinear"
    shapes = {value.name: value for value in values}
    nodes, constants, outer, inner = [], [], [], []
    for tensor in tensors:
        given = shapes[tensor.name]
        sizes = [d.dim_value or d.dim_param for d in given.type.tensor_type.shape.dim]
        kind = given.type.tensor_type.elem_type
        real = TensorProto.FLOAT if tensor.scale else kind
        outer.append(helper.make_tensor_value_info(tensor.name, real, sizes))
        inner.append(helper.make_tensor_value_info(_inner(tensor), kind, sizes))
        ends = (tensor.name, _inner(tensor)) if inward else (_inner(tensor), tensor.name)
        if not tensor.scale:
            nodes.append(helper.make_node("Identity", [ends[0]], [ends[1]]))
            continue
        scale, zero = f"{tensor.name}_scale", f"{tensor.name}_zero_point"
        constants += [
            numpy_helper.from_array(np.array(tensor.scale, np.float32), scale),
            numpy_helper.from_array(np.array(tensor.zero_point, tensor.dtype), zero),
        ]
        nodes.append(helper.make_node(op, [ends[0], scale, zero], [ends[1]], name=tensor.name))
    inputs, outputs = (outer, inner) if inward else (inner, outer)
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = 9
    onnx.save_model(made, path)
    return path
