"""Rewriting the TIR functions of a module, and the blocks, loops and variables in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi.structural import structural_map


def map_functions(module: Any, change: Callable[[Any], Any]) -> Any:
    """Return the module with ``change`` of every TIR function; others stay."""
    functions = {
        var: change(function) if isinstance(function, tirx.PrimFunc) else function
        for var, function in module.functions.items()
    }
    return tvm.IRModule(functions, attrs=module.attrs)


def with_parts(block: Any, *, body: Any | None = None, init: Any | None = None) -> Any:
    """Return a block with another body or start; what is None stays."""
    return s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        block.body if body is None else body,
        block.init if init is None else init,
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )


def with_body(loop: Any, body: Any, *, without: str) -> Any:
    """Return a loop with another body and without one of its annotations."""
    annotations = {key: value for key, value in loop.annotations.items() if key != without}
    return tirx.For(
        loop.loop_var, loop.min, loop.extent, loop.kind, body,
        thread_binding=loop.thread_binding, annotations=annotations,
    )  # fmt: skip


def with_values(tree: Any, values: Sequence[tuple[Any, Any]]) -> Any:
    """Return an expression or statement with values in the place of variables."""

    def swap(variable: Any) -> Any:
        return next((value for old, value in values if variable.same_as(old)), variable)

    return structural_map(tree, [(tirx.Var, swap)])
