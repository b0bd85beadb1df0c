"""Scheduled TIR → bare functions: raw pointers in, nothing of the compiler's runtime left.

Instead of TVM's packed calling convention every buffer parameter becomes a typed pointer, and
temporary buffers of a kernel become further pointer parameters, so that the storage plan owns them;
only what fits the registers (accumulators) and very small buffers stay on the stack.

A kernel with parallel loops becomes several functions, its phases: each parallel loop one that runs
a range of its iterations, and what lies between them one that is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm_ffi.structural import structural_map, structural_walk

from mlopsc.dtypes import DTypeName, dtype_name
from mlopsc.errors import CompilerError
from mlopsc.lower.accesses import buffer_bytes
from mlopsc.lower.borders import split_borders
from mlopsc.lower.functions import with_values
from mlopsc.lower.intrinsics import use_own_math
from mlopsc.lower.parallel import TASK_NS
from mlopsc.schema.common import c_identifier
from mlopsc.schema.program import Phase
from mlopsc.schema.target import Hardware

MIN_STACK_BYTES = 256  # temporary buffers up to this size may always live on the stack
# What a task of a parallel loop may keep there for itself; more needs one owner, and one thread.
TASK_STACK_BYTES = 64 * 1024
GRAIN_NS = 5_000  # tasks are handed out in ranges of at least this time


@dataclass(frozen=True)
class BareFunctions:
    """All kernels of a program, lowered.

    Attributes:
        module: ``tvm.IRModule`` of the functions.
        parameters: Element type of each parameter, by symbol.
        scratch: Sizes of the trailing scratch parameters in bytes, by symbol.
        phases: Of each kernel that has parallel loops, by symbol.
        runtime_symbols: External functions the kernels call.
    """

    module: Any
    parameters: dict[str, tuple[DTypeName, ...]]
    scratch: dict[str, tuple[int, ...]]
    phases: dict[str, tuple[Phase, ...]]
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
    _let_vectorize()
    lowered = tvm.transform.Sequential([tirx.transform.BindTarget(target), *_passes()])(named)
    stack_bytes = max(MIN_STACK_BYTES, hardware.registers * hardware.vector_bits // 8)
    functions = {}
    parameters: dict[str, tuple[DTypeName, ...]] = {}
    scratch: dict[str, tuple[int, ...]] = {}
    phases: dict[str, tuple[Phase, ...]] = {}
    externs: set[str] = set()
    for var, function in lowered.functions.items():
        symbol = symbols[var.name_hint]
        bare = _bare(function, symbol, stack_bytes)
        parameters[symbol], scratch[symbol] = bare.parameters, bare.scratch
        phases[symbol] = tuple(phase for phase, _ in bare.phases)
        made = [bare.whole] if not bare.phases else [function for _, function in bare.phases]
        for part in made:
            functions[str(part.attrs["global_symbol"])] = part
            externs |= _externs(part.body, symbol)
    if any(phases.values()):
        externs.add("mlopsc_parallel")
    return BareFunctions(
        tvm.IRModule(functions), parameters, scratch, phases, tuple(sorted(externs))
    )


@cache
def _let_vectorize() -> None:
    """Tell TVM, once, of functions that it would compute lane by lane."""
    for name in ("tirx.erf", "tirx.nearbyint"):
        tvm.ir.register_op_attr(name, "TVectorizable", True, level=11)


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
        _own("SplitBorders", split_borders),
        t.BF16ComputeLegalize(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        t.VectorizeLoop(True),
        _own("UseOwnMath", use_own_math),
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


def _own(name: str, change: Callable[[Any], Any]) -> Any:
    """Return a change of modules as a pass of TVM's."""
    return tvm.transform.module_pass(lambda module, _: change(module), 0, name=name)


@dataclass(frozen=True)
class _Bare:
    """One kernel: ``whole`` as one function, or its phases as one function each."""

    whole: Any
    parameters: tuple[DTypeName, ...]
    scratch: tuple[int, ...]
    phases: list[tuple[Phase, Any]]


def _bare(function: Any, symbol: str, stack_bytes: int) -> _Bare:
    pointers: list[tuple[Any, Any]] = []
    types: list[DTypeName] = []
    for param in function.params:
        if not tirx.is_buffer_var(param):
            raise CompilerError(f"kernel {symbol} takes a parameter that is not a buffer: {param}")
        pointers.append((param, _pointer(param.name, str(param.ty.dtype))))
        types.append(dtype_name(str(param.ty.dtype)))
    scratch: list[tuple[Any, int]] = []
    statements = []

    def planned(allocation: Any) -> Any:
        buffer = allocation.buffer
        pointer = _pointer(f"{buffer.name}_scratch", str(buffer.ty.dtype))
        scratch.append((pointer, buffer_bytes(buffer)))
        # Buffers that only vectors touch have elements of vector type by now.
        types.append(dtype_name(str(buffer.ty.dtype).partition("x")[0]))
        return tirx.stmt.DeclBuffer(buffer, data=pointer)

    body = [_serial_if_large(s) for s in _statements(function.body)]
    shared = any(map(_is_parallel, body))
    for statement in body:
        if isinstance(statement, tirx.stmt.DeclBuffer):
            statements.append(_rebind(statement, pointers))
        elif isinstance(statement, tirx.stmt.AllocBuffer):
            large = buffer_bytes(statement.buffer) > stack_bytes
            statements.append(planned(statement) if large or shared else statement)
        elif _is_parallel(statement) or not _allocations(statement):
            statements.append(statement)  # what a task allocates is its own
        else:
            statements.append(structural_map(statement, (tirx.stmt.AllocBuffer, planned)))
    params = [q for _, q in pointers] + [q for q, _ in scratch]

    def make(name: str, part: list[Any], extra: Sequence[Any] = ()) -> Any:
        made = tirx.PrimFunc([*params, *extra], tirx.stmt.SeqStmt(part), function.ret_type)
        for key, value in (function.attrs or {}).items():
            made = made.with_attr(key, value)
        return made.with_attr("global_symbol", name).with_attr("tirx.noalias", True)

    parts = _split(statements) if shared else []
    return _Bare(
        whole=None if parts else make(symbol, statements),
        parameters=tuple(types),
        scratch=tuple(n for _, n in scratch),
        phases=[_phase(f"{symbol}_p{i}", part, make) for i, part in enumerate(parts)],
    )


def _statements(body: Any) -> list[Any]:
    return list(body) if isinstance(body, tirx.stmt.SeqStmt) else [body]


def _is_parallel(statement: Any) -> bool:
    return isinstance(statement, tirx.For) and statement.kind == tirx.stmt.ForKind.PARALLEL


def _serial_if_large(statement: Any) -> Any:
    """Return a parallel loop as a serial one if a task needs more memory than a stack gives."""
    if not _is_parallel(statement) or sum(_allocations(statement)) <= TASK_STACK_BYTES:
        return statement
    return tirx.For(
        statement.loop_var, statement.min, statement.extent, tirx.stmt.ForKind.SERIAL,
        statement.body,
    )  # fmt: skip


def _allocations(statement: Any) -> list[int]:
    """Return the bytes of each buffer that is allocated inside a statement."""
    sizes: list[int] = []

    def visit(allocation: Any) -> None:
        sizes.append(buffer_bytes(allocation.buffer))

    structural_walk(statement, (tirx.stmt.AllocBuffer, visit))
    return sizes


def _split(statements: Sequence[Any]) -> list[list[Any]]:
    """Return the statements of each phase; each has the declarations that came before it.

    A definition (``Bind``) is pure and small, so phases repeat it, as they do views of buffers.
    """
    declared: list[Any] = []
    parts: list[list[Any]] = []
    open_part = False
    for statement in statements:
        if isinstance(statement, tirx.stmt.DeclBuffer | tirx.stmt.Bind):
            declared.append(statement)
            if open_part:
                parts[-1].append(statement)
        elif _is_parallel(statement):
            parts.append([*declared, statement])
            open_part = False
        elif open_part:
            parts[-1].append(statement)
        else:
            parts.append([*declared, statement])
            open_part = True
    return parts


def _phase(name: str, part: list[Any], make: Callable[..., Any]) -> tuple[Phase, Any]:
    """Return a phase and its function; a parallel loop becomes one over a range of it."""
    loop = part[-1]
    if not _is_parallel(loop):
        return Phase(symbol=name), make(name, part)
    dtype = str(loop.loop_var.ty)
    begin, end = tirx.Var("task_begin", "int32"), tirx.Var("task_end", "int32")
    index = tirx.Var("task_index", dtype)
    first = loop.min + begin.astype(dtype)
    ranged = tirx.For(
        index,
        tirx.const(0, dtype),
        (end - begin).astype(dtype),
        tirx.stmt.ForKind.SERIAL,
        with_values(loop.body, [(loop.loop_var, index + first)]),
    )
    task_ns = max(1, int(loop.annotations[TASK_NS]))
    phase = Phase(symbol=name, tasks=int(loop.extent), grain=-(-GRAIN_NS // task_ns))
    return phase, make(name, [*part[:-1], ranged], [begin, end])


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
