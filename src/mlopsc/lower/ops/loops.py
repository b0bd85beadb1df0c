"""Computations in order, as loops over elements: what a formula per element cannot say.

Ensures: a loop nest is one kernel of its own; it is not fused, and runs in the order written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import te, tirx

from mlopsc.lower.ops.node import Node, Operand


def over(shape: Sequence[int], body: Callable[..., Any]) -> Any:
    """Return loops over all indices of ``shape``, the last one fastest, around ``body(*index)``."""
    variables = [tirx.Var(f"i{axis}", "int64") for axis in range(len(shape))]
    statement = body(*variables)
    for variable, size in reversed(list(zip(variables, shape, strict=True))):
        zero, extent = tirx.const(0, "int64"), tirx.const(size, "int64")
        statement = tirx.For(variable, zero, extent, tirx.stmt.ForKind.SERIAL, statement)
    return statement


def store(buffer: Any, value: Any, index: Sequence[Any]) -> Any:
    """Return the statement ``buffer[index] = value``; a scalar's index is empty."""
    return tirx.stmt.BufferStore(buffer, value, list(index) or [tirx.const(0, "int64")])


def load(buffer: Any, index: Sequence[Any]) -> Any:
    """Return the element ``buffer[index]``."""
    return buffer[tuple(index) or (tirx.const(0, "int64"),)]


def sequence(*statements: Any) -> Any:
    """Return the statements one after the other."""
    return tirx.stmt.SeqStmt(list(statements)) if len(statements) > 1 else statements[0]


def program(
    node: Node, operands: Sequence[Operand], write: Callable[[list[Any], list[Any]], Any]
) -> list[Any]:
    """Return the node's results as one kernel.

    Args:
        node: Its outputs are all written.
        operands: What the kernel reads, each once.
        write: Takes the buffers read and written, and returns a statement. Buffers of scalars have
            one element.
    """
    results = [o for o in node.outputs if o is not None]
    tensors = [operand.tensor for operand in operands]
    made = te.extern(
        [result.shape for result in results],
        tensors,
        lambda ins, outs: write(list(ins), list(outs)),
        name=node.op.lower(),
        dtype=[result.dtype for result in results],
        in_buffers=[tirx.decl_buffer(t.shape, t.dtype) for t in tensors],
        out_buffers=[tirx.decl_buffer(r.shape, r.dtype) for r in results],
    )
    return list(made) if isinstance(made, list | tuple | tvm.ir.Array) else [made]


def call(name: str, ins: Sequence[Any], outs: Sequence[Any], *numbers: int) -> Any:
    """Return the call of a runtime function: pointers read, pointers written, int32 numbers."""
    pointers = [b.access_ptr("r") for b in ins] + [b.access_ptr("w") for b in outs]
    values = [tirx.const(number, "int32") for number in numbers]
    return tirx.Evaluate(tirx.call_extern("void", name, *pointers, *values))
