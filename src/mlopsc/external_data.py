"""Finds tensors in ONNX models, wherever they are: those of external data above all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor whose data lies outside ``model``, those in bodies and functions too."""
    return (t for t in tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of ``model``: initializers and attributes, dense and sparse."""
    graphs = [model.graph]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    nodes: list[Iterable[onnx.NodeProto]] = [function.node for function in model.functions]
    for function in model.functions:
        yield from _of_attributes(function.attribute_proto, graphs)
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            yield from _parts(graph.sparse_initializer)
            nodes.append(graph.node)
        for node in nodes.pop():
            yield from _of_attributes(node.attribute, graphs)


def _of_attributes(
    attributes: Iterable[onnx.AttributeProto], graphs: list[onnx.GraphProto]
) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of ``attributes``; the graphs among them join ``graphs``."""
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from _parts([attribute.sparse_tensor])
        yield from _parts(attribute.sparse_tensors)
        if attribute.HasField("g"):
            graphs.append(attribute.g)
        graphs.extend(attribute.graphs)


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def set_external(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Make ``tensor`` refer to ``length`` bytes at ``offset`` of ``location``."""
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def offset_of(tensor: onnx.TensorProto) -> int:
    """Return the offset of external data that ``set_external`` described."""
    return next((int(e.value) for e in tensor.external_data if e.key == "offset"), 0)
