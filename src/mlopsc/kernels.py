"""The C that can go into a library beside the generated kernels: which file gives which function.

``kernels/runtime`` holds one file per function, so that a library carries only what it calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlopsc.errors import CompilerError
from mlopsc.resources import kernels_dir

PUBLIC_HEADER: Final = "mlopsc.h"
RUNTIME_HEADERS: Final = ("mlopsc_math.h", "mlopsc_math_bits.h")

# Function -> its file, and the functions that one calls.
RUNTIME: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "mlopsc_expf": ("mlopsc_expf.c", ()),
    "mlopsc_logf": ("mlopsc_logf.c", ()),
    "mlopsc_log1pf": ("mlopsc_log1pf.c", ("mlopsc_logf",)),
    "mlopsc_tanhf": ("mlopsc_tanhf.c", ("mlopsc_expf",)),
    "mlopsc_erff": ("mlopsc_erff.c", ("mlopsc_expf",)),
    "mlopsc_powf": ("mlopsc_powf.c", ()),
    "mlopsc_sinf": ("mlopsc_sincosf.c", ()),
    "mlopsc_cosf": ("mlopsc_sincosf.c", ()),
    "mlopsc_rintf": ("mlopsc_rintf.c", ()),
}


def public_header() -> Path:
    """Return the path of the C ABI's header."""
    return kernels_dir() / "include" / PUBLIC_HEADER


def runtime_files(symbols: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """Return the headers and the sources that give the runtime functions among ``symbols``.

    Raises:
        CompilerError: A symbol looks like one of ours and is not.
    """
    sources: set[str] = set()
    pending = [symbol for symbol in symbols if symbol.startswith("mlopsc_")]
    while pending:
        symbol = pending.pop()
        if symbol not in RUNTIME:
            raise CompilerError(f"the kernels call '{symbol}', which the runtime does not have")
        source, calls = RUNTIME[symbol]
        sources.add(source)
        pending.extend(calls)
    folder = kernels_dir() / "runtime"
    headers = [folder / name for name in RUNTIME_HEADERS] if sources else []
    return headers, [folder / name for name in sorted(sources)]
