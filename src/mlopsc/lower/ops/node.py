"""What a lowering sees of a node: operands as TE tensors or constants, attributes, result types.

Element types here are storage types: bfloat16, float16 and smaller types are unsigned or signed
integers of their width, and only ``cast`` knows what their bits mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import te, tirx

from mlopsc.dtypes import storage_dtype
from mlopsc.errors import CompilerError

Array = np.ndarray[Any, Any]
Index = tuple[Any, ...]


class Operand:
    """One input of a node.

    Attributes:
        shape: Static.
        dtype: Storage type.
        logical: ONNX's element type.
        constant: The value, in storage representation, if it is known.
    """

    def __init__(self, value: ir.Value) -> None:
        """Describe ``value``, which has a static shape and a type."""
        if value.shape is None or value.dtype is None:
            raise CompilerError(f"tensor '{value.name}' has no shape or type")
        self.shape = tuple(int(d) for d in value.shape)
        self.logical = value.dtype
        self.dtype = storage_dtype(value.dtype.name)
        self.value = value
        self._tensor: Any = None

    @property
    def constant(self) -> Array | None:
        """The value in storage representation, if it is known when compiling."""
        if self.value.const_value is None:
            return None
        return stored(self.value.const_value)

    @property
    def tensor(self) -> Any:
        """The operand as a TE tensor."""
        if self._tensor is None:
            self._tensor = te.placeholder(self.shape, self.dtype, name="operand")
        return self._tensor

    @property
    def used(self) -> bool:
        """Whether ``tensor`` was asked for."""
        return self._tensor is not None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def at(self, index: Index) -> Any:
        """Return the element that broadcasts to ``index`` of a result (NumPy's rules)."""
        if math.prod(self.shape) == 1 and (array := self.constant) is not None:
            value = array.reshape(())[()]
            if not _is_extreme(value):
                return literal(value, self.dtype)
        return self.load(index)

    def load(self, index: Index) -> Any:
        """Return the same as a load from the tensor, also where the value is known."""
        own = index[len(index) - self.rank :]
        return self.tensor(
            *(0 if size == 1 else i for size, i in zip(self.shape, own, strict=True))
        )


@dataclass(frozen=True)
class Node:
    """One node of a graph in normal form.

    Attributes:
        op: Operator.
        inputs: None where an optional input is left out.
        outputs: Shape and storage type of each output; None where it is left out.
        attributes: By name, as Python values.
        version: Opset version of its domain.
        tables: Constants that the lowering made.
    """

    op: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Result | None, ...]
    attributes: dict[str, Any]
    version: int
    tables: list[Operand] = field(default_factory=list)

    def table(self, array: Array) -> Any:
        """Return a tensor of constants that are computed from what the node says."""
        dtype = ir.DataType.from_numpy(array.dtype)
        value = ir.Value(
            const_value=ir.tensor(array),
            shape=ir.Shape(array.shape),
            type=ir.TensorType(dtype),
        )
        self.tables.append(Operand(value))
        return self.tables[-1].tensor

    def operand(self, index: int) -> Operand:
        """Return an input that must be there."""
        found = self.optional(index)
        if found is None:
            raise CompilerError(f"{self.op}: input {index} is missing")
        return found

    def optional(self, index: int) -> Operand | None:
        """Return an input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> Array | None:
        """Return the value of an input that must be constant, or None where it is left out."""
        operand = self.optional(index)
        if operand is None:
            return None
        value = operand.constant
        if value is None:
            raise CompilerError(f"{self.op}: input {index} must be a constant")
        return value

    def integers(self, index: int) -> list[int] | None:
        """Return a constant input as a flat list of integers, or None where it is left out."""
        value = self.constant(index)
        return None if value is None else [int(v) for v in value.reshape(-1)]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """Return a float attribute; its default too is the float32 that the schema stores."""
        return float(np.float32(self.attribute(name, default)))

    @property
    def result(self) -> Result:
        """The first output."""
        first = self.outputs[0]
        if first is None:
            raise CompilerError(f"{self.op}: its first output is missing")
        return first


@dataclass(frozen=True)
class Result:
    """Shape, storage type and ONNX type of an output."""

    shape: tuple[int, ...]
    dtype: str
    logical: ir.DataType

    @classmethod
    def of(cls, value: ir.Value) -> Result:
        """Describe ``value``, which has a static shape and a type."""
        operand = Operand(value)
        return cls(operand.shape, operand.dtype, operand.logical)


Lowering = Callable[[Node], Any]  # one TE tensor, or one per output that is there


def stored(tensor: ir.TensorProtocol) -> Array:
    """Return the elements of ``tensor`` in their storage type."""
    array = np.asarray(tensor.numpy())
    dtype = storage_dtype(tensor.dtype.name)
    if array.dtype.name == dtype:
        return array
    if array.dtype.itemsize == np.dtype(dtype).itemsize and tensor.dtype.bitwidth >= 8:
        return array.view(dtype)
    if tensor.dtype.is_integer():
        return array.astype(dtype)
    return array.view(dtype)  # 4-bit floats: one per byte


def _is_extreme(value: Any) -> bool:
    """Whether ``value`` is an integer at an end of its type, next to which TVM miscounts."""
    if value.dtype.kind not in "iu":
        return False
    info = np.iinfo(value.dtype)
    return int(value) >= info.max - 1 or (info.min < 0 and int(value) <= info.min + 1)


def literal(value: Any, like: Any) -> Any:
    """Return a TIR constant of a type, given by its name or by a TIR value that has it."""
    dtype = like if isinstance(like, str) else str(like.ty)
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    return tirx.const(float(value) if dtype.startswith("float") else int(value), dtype)


def is_float(value: Any) -> bool:
    """Whether a TIR value is a floating-point number."""
    return str(value.ty).startswith("float")


def elementwise(node: Node, function: Callable[..., Any], *, load_zeros: bool = False) -> Any:
    """Return the tensor of ``function(a, b, ...)`` over the inputs, broadcast to the result.

    Args:
        node: What is computed.
        function: Takes one element of each input.
        load_zeros: Hide constant zeros from the compiler, which takes ``x * 0`` for 0.
    """
    operands = [o for o in node.inputs if o is not None]

    def read(operand: Operand, index: Index) -> Any:
        # The index itself, not 0 along axes of size 1, lets the compiler see what is elementwise.
        whole = operand.shape == node.result.shape and math.prod(operand.shape) > 1
        if whole:
            return operand.tensor(*index)
        hidden = load_zeros and operand.constant is not None and not operand.constant.any()
        return operand.load(index) if hidden else operand.at(index)

    return compute(node, lambda *index: function(*(read(o, index) for o in operands)))


def compute(node: Node, element: Callable[..., Any], shape: Sequence[int] | None = None) -> Any:
    """Return the result's tensor, element by element (``element`` takes the index).

    Its name becomes a parameter's in C, and must be no function's that the kernel calls (``ceil``).
    """
    shape = node.result.shape if shape is None else tuple(shape)
    return te.compute(shape, element, name=f"{node.op.lower()}_result")


def axis_of(axis: int, rank: int) -> int:
    """Return a non-negative axis."""
    return axis + rank if axis < 0 else axis
