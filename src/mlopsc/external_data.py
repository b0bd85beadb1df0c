"""Finds tensors in ONNX models, wherever they are: those of external data above all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper

_MOST_DIGITS = 20  # of an offset


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


@dataclass(frozen=True)
class Place:
    """Where a tensor's data lies, as the tensor says.

    Attributes:
        location: A path, or a name.
        offset: Bytes.
        length: Bytes; what the type and shape say, unless it is given.
    """

    location: str
    offset: int
    length: int


def place_of(tensor: onnx.TensorProto) -> Place:
    """Return where the external data of ``tensor`` lies.

    Raises:
        ValueError: That is not said, said twice, or no place.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not entries.get("location"):
        raise ValueError("its location is missing, or something is said twice")
    numbers = {key: entries.get(key, default) for key, default in (("offset", "0"), ("length", ""))}
    for key, text in numbers.items():
        if text and not (text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS):
            raise ValueError(f"its {key} is '{text[:40]}'; expected a number of bytes")
    offset, length = int(numbers["offset"] or 0), int(numbers["length"] or nbytes(tensor))
    if length != nbytes(tensor):
        raise ValueError(f"its length is {length}; expected {nbytes(tensor)} bytes")
    return Place(entries["location"], offset, length)


def nbytes(tensor: onnx.TensorProto) -> int:
    """Return the size of the raw data of ``tensor``.

    Raises:
        ValueError: Its type has no raw data.
    """
    try:
        name = helper.tensor_dtype_to_np_dtype(tensor.data_type).name
    except KeyError as error:
        raise ValueError("its type has no raw data") from error
    width = re.match(r"bool()|[a-z]+(\d+)", name)  # the names of all types but one tell it
    if width is None:  # strings have none
        raise ValueError("its type has no raw data")
    bits = int(width[2] or 8)
    return -(-bits * int(math.prod(tensor.dims)) // 8)


def set_external(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Make ``tensor`` refer to ``length`` bytes at ``offset`` of ``location``."""
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
