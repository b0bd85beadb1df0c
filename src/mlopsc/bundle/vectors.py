"""Test vectors in ONNX's own form: ``test_data_set_N/input_K.pb`` and ``output_K.pb``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Vector:
    """Raw inputs and the reference runtime's outputs, by name."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def encode_vectors(
    vectors: Sequence[Vector], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, bytes]:
    """Return the files of ``vectors`` by path below ``vectors/``."""
    files = {}
    for number, vector in enumerate(vectors):
        folder = f"test_data_set_{number}"
        for index, spec in enumerate(inputs):
            files[f"{folder}/input_{index}.pb"] = _encode(vector.inputs[spec.name], spec.name)
        for index, spec in enumerate(outputs):
            files[f"{folder}/output_{index}.pb"] = _encode(vector.outputs[spec.name], spec.name)
    return files


def decode_vectors(
    files: Mapping[str, bytes],
    count: int,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> list[Vector]:
    """Return the vectors in ``files`` (the inverse of ``encode_vectors``).

    Raises:
        ValueError: A file is missing, damaged, or does not fit the signature.
    """
    vectors = []
    for number in range(count):
        folder = f"test_data_set_{number}"
        vectors.append(
            Vector(
                {s.name: _decode(files, f"{folder}/input_{i}.pb", s) for i, s in enumerate(inputs)},
                {
                    s.name: _decode(files, f"{folder}/output_{i}.pb", s)
                    for i, s in enumerate(outputs)
                },
            )
        )
    return vectors


def _encode(array: Array, name: str) -> bytes:
    tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
    return bytes(tensor.SerializeToString(deterministic=True))


def _decode(files: Mapping[str, bytes], path: str, spec: TensorSpec) -> Array:
    if path not in files:
        raise ValueError(f"vectors/{path} is missing")
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(files[path])
        array = numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError) as error:
        raise ValueError(f"vectors/{path} is not a tensor") from error
    if array.shape != spec.shape or array.dtype.name != spec.dtype:
        raise ValueError(
            f"vectors/{path} is {array.dtype.name}{list(array.shape)}, expected {spec}"
        )
    return array
