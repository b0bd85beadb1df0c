"""The element types of the toolchain, in one table: ONNX code, NumPy type, C type.

The name of a dtype is NumPy's (``float32``); the code is ONNX's ``TensorProto.DataType``, which is
also what the C ABI's descriptor carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

DTypeName = Literal[
    "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "bool",
]  # fmt: skip


@dataclass(frozen=True)
class DType:
    """One element type.

    Attributes:
        name: NumPy's name.
        onnx: ``TensorProto.DataType`` code.
        c: The C99 type with the same representation.
        c_macro: The name of its constant in ``mlopsc.h``.
    """

    name: DTypeName
    onnx: int
    c: str
    c_macro: str

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The little-endian NumPy dtype."""
        return np.dtype(self.name).newbyteorder("<")

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize


DTYPES: Final[dict[str, DType]] = {
    d.name: d
    for d in (
        DType("float32", 1, "float", "MLOPSC_FLOAT32"),
        DType("uint8", 2, "uint8_t", "MLOPSC_UINT8"),
        DType("int8", 3, "int8_t", "MLOPSC_INT8"),
        DType("uint16", 4, "uint16_t", "MLOPSC_UINT16"),
        DType("int16", 5, "int16_t", "MLOPSC_INT16"),
        DType("int32", 6, "int32_t", "MLOPSC_INT32"),
        DType("int64", 7, "int64_t", "MLOPSC_INT64"),
        DType("bool", 9, "uint8_t", "MLOPSC_BOOL"),
        DType("float64", 11, "double", "MLOPSC_FLOAT64"),
        DType("uint32", 12, "uint32_t", "MLOPSC_UINT32"),
        DType("uint64", 13, "uint64_t", "MLOPSC_UINT64"),
    )
}

BY_ONNX_CODE: Final[dict[int, DType]] = {d.onnx: d for d in DTYPES.values()}


def dtype_name(name: str) -> DTypeName:
    """Return ``name`` as a checked dtype name.

    Raises:
        KeyError: The toolchain does not know the type.
    """
    if name not in DTYPES:
        raise KeyError(name)
    return cast(DTypeName, name)


# How lowering holds the types that no target computes with: as integers of the same width, or one
# element per byte where the type is narrower.
_STORAGE: Final[dict[str, str]] = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "uint16", "BFLOAT16": "uint16",
    "FLOAT8E4M3FN": "uint8", "FLOAT8E4M3FNUZ": "uint8", "FLOAT8E5M2": "uint8",
    "FLOAT8E5M2FNUZ": "uint8", "FLOAT8E8M0": "uint8", "FLOAT4E2M1": "uint8", "INT4": "int8",
    "UINT4": "uint8", "INT2": "int8", "UINT2": "uint8",
}  # fmt: skip


def storage_dtype(name: str) -> str:
    """Return the NumPy type that holds elements of the ONNX type ``name`` (``FLOAT16``, ...)."""
    return _STORAGE.get(name, name.lower())
