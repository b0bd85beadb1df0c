"""Scheduled TIR → bare functions: raw pointers in, nothing of the compiler's runtime left.

Instead of TVM's packed calling convention every buffer parameter becomes a typed pointer, and
temporary buffers of a kernel become further pointer parameters, so that the storage plan owns them;
only what fits the registers (accumulators) and very small buffers stay on the stack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm_ffi.structural import structural_walk

from mlopsc.dtypes import DTypeName, dtype_name
from mlopsc.errors import CompilerError
from mlopsc.schema.common import c_identifier
from mlopsc.schema.target import Hardware

MIN_STACK_BYTES = 256  # temporary buffers up to this size may always live on the stack


@dataclass(frozen=True)
class BareFunctions:
    """All kernels of a program, lowered.

    Attributes:
        module: ``tvm.IRModule`` of the functions.
        parameters: Element type of each parameter, by symbol.
        scratch: Sizes of the trailing scratch parameters in bytes, by symbol.
        runtime_symbols: External functions the kernels call.
    """

    module: Any
    parameters: dict[str, tuple[DTypeName, ...]]
    scratch: dict[str, tuple[int, ...]]
    runtime_symbols: tuple[str, ...]


def bare_functions(
    module: Any, symbols: Mapping[str, str], target: Any, hardware: Hardware
) -> BareFunctions:
    """Lower the functions named in ``symbols`` (kernel name → C symbol).

    Raises:
        CompilerError: A kernel cannot be expressed without the compiler's runtime.
    """
    named = tvm.IRModule(
        {
            var: function.with_attr("global_symbol", symbols[var.name_hint])
            for var, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc) and var.name_hint in symbols
        }
    )
    lowered = tvm.transform.Sequential([tirx.transform.BindTarget(target), *_passes()])(named)
    stack_bytes = max(MIN_STACK_BYTES, hardware.registers * hardware.vector_bits // 8)
    functions = {}
    parameters: dict[str, tuple[DTypeName, ...]] = {}
    scratch: dict[str, tuple[int, ...]] = {}
    externs: set[str] = set()
    for var, function in lowered.functions.items():
        symbol = symbols[var.name_hint]
        functions[var], parameters[symbol], scratch[symbol] = _bare(function, symbol, stack_bytes)
        externs |= _externs(functions[var].body, symbol)
    return BareFunctions(tvm.IRModule(functions), parameters, scratch, tuple(sorted(externs)))


def _passes() -> list[Any]:
    """TVM's own TIR pipeline up to where it would pack calls for its runtime."""
    s, t = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.AnnotateIrregularLoop(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.BF16ComputeLegalize(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        t.VectorizeLoop(True),
        t.StorageRewrite(),
        s.HoistIfThenElse(),
        t.UnrollLoop(),
        s.RenormalizeSplitPattern(),
        t.StmtSimplify(),
        t.RemoveNoOp(),
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
        t.FP8ComputeLegalize(),
    ]


def _bare(
    function: Any, symbol: str, stack_bytes: int
) -> tuple[Any, tuple[DTypeName, ...], tuple[int, ...]]:
    pointers: list[tuple[Any, Any]] = []
    types: list[DTypeName] = []
    for param in function.params:
        if not tirx.is_buffer_var(param):
            raise CompilerError(f"kernel {symbol} takes a parameter that is not a buffer: {param}")
        pointers.append((param, _pointer(param.name, str(param.ty.dtype))))
        types.append(dtype_name(str(param.ty.dtype)))
    scratch: list[tuple[Any, int]] = []
    statements = []
    body = function.body
    for statement in list(body) if isinstance(body, tirx.stmt.SeqStmt) else [body]:
        if isinstance(statement, tirx.stmt.DeclBuffer):
            statements.append(_rebind(statement, pointers))
        elif isinstance(statement, tirx.stmt.AllocBuffer) and (
            _buffer_bytes(statement.buffer) > stack_bytes
        ):
            buffer = statement.buffer
            pointer = _pointer(f"{buffer.name}_scratch", str(buffer.ty.dtype))
            scratch.append((pointer, _buffer_bytes(buffer)))
            types.append(dtype_name(str(buffer.ty.dtype)))
            statements.append(tirx.stmt.DeclBuffer(buffer, data=pointer))
        else:
            statements.append(statement)
    made = tirx.PrimFunc(
        [q for _, q in pointers] + [q for q, _ in scratch],
        tirx.stmt.SeqStmt(statements),
        function.ret_type,
    )
    for key, value in (function.attrs or {}).items():
        made = made.with_attr(key, value)
    return (
        made.with_attr("global_symbol", symbol).with_attr("tirx.noalias", True),
        tuple(types),
        tuple(n for _, n in scratch),
    )


def _rebind(statement: Any, pointers: list[tuple[Any, Any]]) -> Any:
    """Rebind the view of a buffer parameter to the pointer that replaced the parameter."""
    data = statement.data
    if isinstance(data, tvm.ir.Call) and getattr(data.op, "name", "") == "tirx.buffer_data":
        for param, pointer in pointers:
            if param.same_as(data.args[0]):
                return tirx.stmt.DeclBuffer(statement.buffer, data=pointer)
    return statement


def _pointer(name: str, dtype: str) -> Any:
    # The C generator prints names as they are, and inputs of a model may be called anything.
    return tirx.Var(c_identifier(name), PointerType(PrimType(dtype), "global"))


def _buffer_bytes(buffer: Any) -> int:
    bits = int(tvm.DataType(str(buffer.ty.dtype)).bits)
    return math.prod(int(d) for d in buffer.ty.shape) * -(-bits // 8)


def _externs(body: Any, symbol: str) -> set[str]:
    """Return the external functions called, and refuse calls into the compiler's runtime."""
    found: set[str] = set()

    def visit(call: Any) -> None:
        name = getattr(call.op, "name", "")
        if name in ("tirx.call_pure_extern", "tirx.call_extern"):
            found.add(str(call.args[0].value))
        elif name.startswith(("tirx.call_packed", "tirx.call_cpacked", "tirx.tvm_call")):
            raise CompilerError(
                f"kernel {symbol} needs the compiler's runtime ({name}) and cannot stand alone"
            )

    structural_walk(body, (tvm.ir.Call, visit))
    return found
