"""The element types of the toolchain, in one table: ONNX code, NumPy type, C type.

The name of a dtype is NumPy's (``float32``), for small types that of ``ml_dtypes``
(``float8_e4m3fn``); the code is ONNX's ``TensorProto.DataType``, which is also what the C ABI's
descriptor carries. Floats of 16 bits and less travel as unsigned integers of their width, elements
of 4 and 2 bits as one byte each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import ml_dtypes  # registers its types with NumPy
import numpy as np

DTypeName = Literal[
    "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "bool", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int4", "uint4", "int2", "uint2",
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

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return "float" in self.name

    @property
    def held(self) -> str:
        """NumPy's name of the integers that hold a type of at most 8 bits."""
        return self.c.removesuffix("_t")

    @property
    def epsilon(self) -> float:
        """The step from 1 to the next number of a floating-point type."""
        return float(ml_dtypes.finfo(self.name).eps)  # type: ignore[no-untyped-call]


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
        DType("float16", 10, "uint16_t", "MLOPSC_FLOAT16"),
        DType("bfloat16", 16, "uint16_t", "MLOPSC_BFLOAT16"),
        DType("float8_e4m3fn", 17, "uint8_t", "MLOPSC_FLOAT8E4M3FN"),
        DType("float8_e4m3fnuz", 18, "uint8_t", "MLOPSC_FLOAT8E4M3FNUZ"),
        DType("float8_e5m2", 19, "uint8_t", "MLOPSC_FLOAT8E5M2"),
        DType("float8_e5m2fnuz", 20, "uint8_t", "MLOPSC_FLOAT8E5M2FNUZ"),
        DType("uint4", 21, "uint8_t", "MLOPSC_UINT4"),
        DType("int4", 22, "int8_t", "MLOPSC_INT4"),
        DType("float4_e2m1fn", 23, "uint8_t", "MLOPSC_FLOAT4E2M1"),
        DType("float8_e8m0fnu", 24, "uint8_t", "MLOPSC_FLOAT8E8M0"),
        DType("uint2", 25, "uint8_t", "MLOPSC_UINT2"),
        DType("int2", 26, "int8_t", "MLOPSC_INT2"),
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


# Types that are stored and moved, but computed with only after a Cast to a wider one.
SMALL: Final[frozenset[str]] = frozenset(
    name for name, d in DTYPES.items() if d.onnx > 13 or d.onnx == 10
)

NARROW_INTEGERS: Final[tuple[DTypeName, ...]] = ("int4", "uint4", "int2", "uint2")

# How lowering holds the types that no target computes with: as integers of the same width, or one
# element per byte where the type is narrower.
_STORAGE: Final[dict[str, str]] = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "uint16", "BFLOAT16": "uint16",
    "FLOAT8E4M3FN": "uint8", "FLOAT8E4M3FNUZ": "uint8", "FLOAT8E5M2": "uint8",
    "FLOAT8E5M2FNUZ": "uint8", "FLOAT8E8M0": "uint8", "FLOAT4E2M1": "uint8", "INT4": "int8",
    "UINT4": "uint8", "INT2": "int8", "UINT2": "uint8",
}  # fmt: skip


def to_file(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``array`` as NumPy's files can hold it: small types as integers with their bits."""
    held = array.dtype.name in SMALL and array.dtype.name != "float16"
    return array.view(f"u{array.itemsize}") if held else array


def from_file(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return what ``to_file`` was given if it was of type ``dtype``; bytes are taken, too."""
    if dtype not in SMALL or array.dtype.kind not in "uV":
        return array
    return array.view(dtype) if array.itemsize == DTYPES[dtype].itemsize else array


def storage_dtype(name: str) -> str:
    """Return the NumPy type that holds elements of the ONNX type ``name`` (``FLOAT16``, ...)."""
    return _STORAGE.get(name, name.lower())
