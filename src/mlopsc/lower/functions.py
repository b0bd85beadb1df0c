"""Rewriting the TIR functions of a module, and the blocks in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import s_tir, tirx


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
