"""Takes large initializers out of a graph and puts them back, without copying them.

``detach`` gives the form in which graphs travel (``schema/graph.py``), ``load_graph`` a graph to
work on, and ``find_weights`` checks what a file claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from mlopsc.external_data import external_tensors, place_of
from mlopsc.resident import map_file
from mlopsc.schema.bundle import StageName
from mlopsc.schema.graph import ALIGN, INLINE_BYTES, StageGraph, Weight, weights_name

if TYPE_CHECKING:  # loading it takes longer than reading a bundle
    import onnx_ir as ir


def detach(model: ir.Model, name: StageName) -> StageGraph:
    """Serialise ``model``, its large initializers beside the graph; ``model`` is used up.

    Args:
        model: Its initializers may be external tensors with absolute paths; they are mapped.
        name: Which stage it becomes.
    """
    import onnx_ir as ir

    weights: dict[int, Weight] = {}
    end = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype.is_string() or tensor.nbytes <= INLINE_BYTES:
            continue
        weight = raw(tensor)
        offset = end + -end % ALIGN
        weights[offset] = weight
        end = offset + len(weight.data)
        value.const_value = ir.ExternalTensor(
            weights_name(name),
            offset,
            len(weight.data),
            tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=str(value.name),
        )
    proto = ir.to_proto(model)
    return StageGraph(name, bytes(proto.SerializeToString(deterministic=True)), weights)


def load_graph(stage: StageGraph) -> ir.Model:
    """Return the graph of ``stage`` with all its initializers; they share memory with it."""
    import onnx_ir as ir

    model = ir.from_proto(onnx.load_model_from_string(stage.model))
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            data = stage.weights[value.const_value.offset or 0].data
            value.const_value = _tensor(value.const_value, data)
    return model


def find_weights(stage: StageName, model: bytes, block: Weight) -> StageGraph:
    """Return the graph ``model`` whose weights are parts of ``block``.

    Raises:
        ValueError: External data of the graph is not in the block.
    """
    proto = onnx.load_model_from_string(model)
    weights = {}
    for tensor in external_tensors(proto):
        try:
            place = place_of(tensor)
        except ValueError as error:
            raise ValueError(f"the weights of '{tensor.name}': {error}") from error
        end = place.offset + place.length
        if place.location != weights_name(stage) or end > len(block.data):
            raise ValueError(f"the weights of '{tensor.name}' are not in '{weights_name(stage)}'")
        data = block.data[place.offset : end]
        weights[place.offset] = Weight(data, block.file, block.offset + place.offset)
    return StageGraph(stage, model, weights)


def raw(tensor: ir.TensorProtocol) -> Weight:
    """Return the bytes of ``tensor``: mapped if it lies in a file, else shared if they can be."""
    import onnx_ir as ir

    if isinstance(tensor, ir.ExternalTensor):
        path, offset = Path(tensor.path), tensor.offset or 0
        return Weight(map_file(path, offset, tensor.nbytes), path, offset)
    if tensor.dtype.bitwidth < 8:
        return Weight(memoryview(tensor.tobytes()))
    array = np.ascontiguousarray(tensor.numpy())
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return Weight(little.reshape(-1).view(np.uint8).data)


def pieces(tensor: ir.TensorProtocol, elements: int = 1 << 20) -> Iterator[np.ndarray]:
    """Yield the elements of ``tensor`` in flat arrays that are small beside it."""
    if tensor.dtype.bitwidth < 8 or tensor.size <= elements:
        yield np.asarray(tensor.numpy()).reshape(-1)
        return
    flat = np.frombuffer(raw(tensor).data, dtype=tensor.dtype.numpy())
    for start in range(0, tensor.size, elements):
        yield flat[start : start + elements]


def _tensor(external: ir.ExternalTensor, data: memoryview) -> ir.TensorProtocol:
    import onnx_ir as ir

    name, dtype, shape = external.name, external.dtype, external.shape
    if dtype.bitwidth < 8:
        return ir.PackedTensor(np.frombuffer(data, np.uint8), dtype, shape=shape, name=name)
    array = np.frombuffer(data, dtype=dtype.numpy()).reshape(shape.numpy())
    return ir.Tensor(array, dtype=dtype, shape=shape, name=name)
