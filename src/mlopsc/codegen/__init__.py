"""Stage *codegen*: the kernels of a ``LoweredModule`` → LLVM IR or portable C.

Takes the bare functions; writes ``kernels.ll`` or ``kernels.c``. What always holds: the result
needs nothing but ``mem*`` functions, compiler support routines and ``kernels/runtime``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlopsc.codegen.c import write_c
from mlopsc.codegen.llvm import write_llvm
from mlopsc.schema.target import Generator

GENERATORS: dict[Generator, Callable[[Any, Any, Path], Path]] = {
    "llvm": write_llvm,
    "c": write_c,
}


def generate(generator: Generator, kernels: Any, target: Any, folder: Path) -> Path:
    """Write the kernels into ``folder`` and return the file."""
    return GENERATORS[generator](kernels, target, folder)
