"""Relax ``main`` → a flat list of kernel calls over tensors.

Takes the module after ``CallTIRRewrite``; gives tensors (inputs, constants, temporaries) and calls.
Reshapes alias. Outputs that a kernel computes are written in the caller's buffer directly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tvm
from tvm import relax

from mlopsc.dtypes import DTYPES
from mlopsc.errors import CompilerError

_ALIASING = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value of the program.

    Attributes:
        id: Unique number.
        kind: What it is.
        nbytes: Dense size.
        input_index: Position among the inputs, for inputs.
        constant: Its bytes, for constants.
    """

    id: int
    kind: Literal["input", "temporary", "constant"]
    nbytes: int
    input_index: int = 0
    constant: bytes | None = None


@dataclass(frozen=True)
class KernelCall:
    """``kernel(arguments...)``; outputs come last."""

    kernel: str
    arguments: tuple[Tensor, ...]


@dataclass(frozen=True)
class FlatProgram:
    """The calls and the outputs.

    Attributes:
        calls: In order.
        outputs: One tensor per output of the model.
        direct_outputs: Pairs of a temporary's id and the output buffer it lives in.
    """

    calls: list[KernelCall]
    outputs: list[Tensor]
    direct_outputs: list[tuple[int, int]]


@dataclass
class _Walker:
    values: dict[Any, Any] = field(default_factory=dict)
    constants: dict[bytes, Tensor] = field(default_factory=dict)
    calls: list[KernelCall] = field(default_factory=list)
    count: int = 0

    def tensor(self, kind: Literal["input", "temporary"], ty: Any, index: int = 0) -> Tensor:
        self.count += 1
        return Tensor(self.count, kind, _nbytes(ty), input_index=index)

    def constant(self, array: np.ndarray[Any, Any]) -> Tensor:
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        if data not in self.constants:
            self.count += 1
            self.constants[data] = Tensor(self.count, "constant", len(data), constant=data)
        return self.constants[data]

    def value(self, expr: Any) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return [self.value(f) for f in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value)[expr.index]
        if type(expr).__name__ in ("Constant", "GenericConst"):
            return self.constant((expr.value if hasattr(expr, "value") else expr.data).numpy())
        raise CompilerError(f"lowering left an expression that no kernel computes: {_brief(expr)}")

    def bind(self, var: Any, expr: Any) -> None:
        if not isinstance(expr, tvm.ir.Call):
            self.values[var] = self.value(expr)
            return
        if isinstance(expr.op, tvm.ir.GlobalVar):
            arguments = tuple(self.value(a) for a in expr.args)
            self.calls.append(KernelCall(expr.op.name_hint, arguments))
            return
        name = getattr(expr.op, "name", "")
        if name == "relax.builtin.alloc_tensor":
            self.values[var] = self.tensor("temporary", var.ty)
        elif name in _ALIASING:
            self.values[var] = self.value(expr.args[0])
        else:
            raise CompilerError(
                f"lowering left an operator that has no kernel: {name or _brief(expr)}",
                hint="'docs/core-ops.md' lists what can be compiled",
            )


def flatten(module: Any) -> FlatProgram:
    """Return ``main`` of ``module`` as a flat program.

    Raises:
        CompilerError: It holds something that is not a kernel call.
    """
    main = module["main"]
    walker = _Walker()
    for index, param in enumerate(main.params):
        walker.values[param] = walker.tensor("input", param.ty, index)
    for block in main.body.blocks:
        for binding in block.bindings:
            walker.bind(binding.var, binding.value)
    result = walker.value(main.body.body)
    outputs = result if isinstance(result, list) else [result]
    direct: dict[int, int] = {}
    for index, tensor in enumerate(outputs):
        if tensor.kind == "temporary":
            direct.setdefault(tensor.id, index)
    return FlatProgram(walker.calls, outputs, list(direct.items()))


def _nbytes(ty: Any) -> int:
    shape = ty.shape.values if hasattr(ty.shape, "values") else ty.shape
    try:
        count = math.prod(int(d) for d in shape)
    except TypeError as error:
        raise CompilerError(f"lowering left a tensor without a static shape: {ty}") from error
    name = str(ty.dtype)
    if name not in DTYPES:
        raise CompilerError(f"element type '{name}' cannot be lowered yet")
    return count * DTYPES[name].itemsize


def _brief(expr: Any) -> str:
    return " ".join(str(expr).split())[:200]
