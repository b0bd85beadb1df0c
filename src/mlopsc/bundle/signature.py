"""The signature of a serialised graph: names, types and static shapes of its inputs and outputs.

The labels of an output are metadata of its value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import onnx
from google.protobuf.message import DecodeError

from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.labels import METADATA_KEY
from mlopsc.schema.common import TensorSpec


def graph_signature(model: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs of a graph in normal form.

    Raises:
        ValueError: It is not ONNX, or has an open shape, a foreign type or labels that are none.
    """
    try:
        graph = onnx.load_model_from_string(model).graph
    except (DecodeError, TypeError) as error:
        raise ValueError("it is not an ONNX model") from error
    return _specs(graph.input), _specs(graph.output)


def _specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    specs = []
    for value in values:
        tensor = value.type.tensor_type
        if tensor.elem_type not in BY_ONNX_CODE or any(d.dim_param for d in tensor.shape.dim):
            raise ValueError(f"'{value.name}' has an open shape or a foreign type")
        shape = tuple(d.dim_value for d in tensor.shape.dim)
        dtype = BY_ONNX_CODE[tensor.elem_type].name
        tables = [json.loads(p.value) for p in value.metadata_props if p.key == METADATA_KEY]
        labels = tables[0] if tables else None
        specs.append(TensorSpec(name=value.name, dtype=dtype, shape=shape, labels=labels))
    return tuple(specs)
