"""Step *flatten_inputs*: replaces inputs that are sequences or optionals by tensor inputs.

Requires: what each holds. Ensures: a sequence ``name`` of n tensors is made of the inputs
``name_0`` to ``name_{n-1}``; an optional that holds a tensor is the input ``name``, one that holds
nothing is no input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from mlopsc.errors import OpenShapeError

Content = Sequence[onnx.TypeProto] | onnx.TypeProto | None


def is_tensor(value: onnx.ValueInfoProto) -> bool:
    """Whether ``value`` is a dense tensor, or its type is left out."""
    return value.type.WhichOneof("value") in (None, "tensor_type")


def declared(value: onnx.ValueInfoProto, count: int) -> Content:
    """Return ``count`` elements of the declared type, or of an optional none or all.

    Raises:
        ValueError: The type holds something else.
    """
    kind = value.type
    if kind.HasField("optional_type"):
        if count == 0:
            return None
        kind = kind.optional_type.elem_type
        if kind.HasField("tensor_type") and count == 1:
            return kind
    if not kind.HasField("sequence_type"):
        raise ValueError("neither a sequence nor an optional")
    element = kind.sequence_type.elem_type
    if not element.HasField("tensor_type"):
        raise ValueError("not a sequence of tensors")
    return [element] * count


def bind_sequences(
    proto: onnx.ModelProto, bind: Mapping[str, int]
) -> tuple[onnx.ModelProto, frozenset[str]]:
    """Return ``proto`` with the sequences and optionals that ``bind`` names, and these names.

    Args:
        proto: The model; is not changed.
        bind: Length of a sequence, or 0 or 1 for an optional tensor, by name.

    Raises:
        OpenShapeError: An input cannot have that length.
    """
    contents: dict[str, Content] = {}
    for value in proto.graph.input:
        if not is_tensor(value) and value.name in bind:
            try:
                contents[value.name] = declared(value, bind[value.name])
            except ValueError as error:
                raise OpenShapeError(
                    f"--bind {value.name}={bind[value.name]} fits no input: {error}",
                    hint="a sequence of tensors takes any length, an optional tensor 0 or 1",
                ) from error
    return (flatten_inputs(proto, contents) if contents else proto), frozenset(contents)


def flatten_inputs(proto: onnx.ModelProto, contents: Mapping[str, Content]) -> onnx.ModelProto:
    """Return ``proto`` with the inputs named in ``contents`` replaced.

    Args:
        proto: The model; is not changed.
        contents: The types of what each input holds.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    graph = model.graph
    inputs, nodes = [], []
    for value in graph.input:
        if value.name not in contents:
            inputs.append(value)
            continue
        content, name = contents[value.name], value.name
        optional = value.type.HasField("optional_type")
        kind = value.type.optional_type.elem_type if optional else value.type
        if not optional:
            inside = source = name
        else:
            # What asks for the element may as well take it; the input keeps the name.
            inside, source = f"{name}_optional", name if content is not None else ""
            _rename(graph, name, inside, source)
        if content is None:
            nodes.append(helper.make_node("Optional", [], [inside], type=kind))
            continue
        names = element_names(name, content)
        parts = [content] if isinstance(content, onnx.TypeProto) else content
        inputs += [
            onnx.ValueInfoProto(name=n, type=part) for n, part in zip(names, parts, strict=True)
        ]
        if not isinstance(content, onnx.TypeProto):
            nodes.append(_sequence(names, source, kind))
        if optional:
            nodes.append(helper.make_node("Optional", [source], [inside]))
    kept = [*nodes, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(kept)
    return model


def element_names(name: str, content: Content) -> list[str]:
    """Return the names of the inputs that replace the input ``name``."""
    if content is None:
        return []
    if isinstance(content, onnx.TypeProto):
        return [name]
    return [f"{name}_{k}" for k in range(len(content))]


def _rename(graph: onnx.GraphProto, old: str, new: str, element: str) -> None:
    """Let all nodes, those of bodies too, read ``new``; those that unwrap it read ``element``."""
    unwrapping = (
        ("OptionalGetElement", "OptionalHasElement") if element else ("OptionalHasElement",)
    )
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = element if node.op_type in unwrapping else new
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename(body, old, new, element)


def _sequence(names: Sequence[str], output: str, kind: onnx.TypeProto) -> onnx.NodeProto:
    if names:
        return helper.make_node("SequenceConstruct", names, [output])
    dtype = kind.sequence_type.elem_type.tensor_type.elem_type
    return helper.make_node("SequenceEmpty", [], [output], dtype=dtype)
