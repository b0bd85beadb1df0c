"""The C that can go into a library beside the generated kernels: which file gives which function.

``kernels/runtime`` holds one file per function, so that a library carries only what it calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlopsc.errors import CompilerError
from mlopsc.resources import kernels_dir
from mlopsc.schema.program import Program

_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
PUBLIC_HEADER: Final = "mlopsc.h"
POOL: Final = "mlopsc_pool.c"  # alone holds state

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
    "mlopsc_rint": ("mlopsc_rint.c", ()),
    "mlopsc_rintf": ("mlopsc_rintf.c", ()),
    "mlopsc_minifloat_decode": ("mlopsc_minifloat.c", ()),
    "mlopsc_minifloat_encode": ("mlopsc_minifloat.c", ()),
    "mlopsc_minifloat_encode_double": ("mlopsc_minifloat.c", ()),
    "mlopsc_power_decode": ("mlopsc_minifloat.c", ()),
    "mlopsc_power_encode": ("mlopsc_minifloat.c", ()),
    "mlopsc_power_encode_double": ("mlopsc_minifloat.c", ()),
    "mlopsc_tanf": ("mlopsc_tanf.c", ("mlopsc_sinf", "mlopsc_cosf")),
    "mlopsc_asinf": ("mlopsc_inverse_trigf.c", ()),
    "mlopsc_acosf": ("mlopsc_inverse_trigf.c", ()),
    "mlopsc_atanf": ("mlopsc_inverse_trigf.c", ()),
    "mlopsc_sinhf": ("mlopsc_hyperbolicf.c", ()),
    "mlopsc_coshf": ("mlopsc_hyperbolicf.c", ()),
    "mlopsc_asinhf": ("mlopsc_hyperbolicf.c", ()),
    "mlopsc_acoshf": ("mlopsc_hyperbolicf.c", ()),
    "mlopsc_atanhf": ("mlopsc_hyperbolicf.c", ()),
    "mlopsc_powi64": ("mlopsc_powi64.c", ()),
    "mlopsc_roi_align": ("mlopsc_roi.c", ()),
    "mlopsc_max_roi_pool": ("mlopsc_roi.c", ()),
    "mlopsc_topk_f32": ("mlopsc_topk_f32.c", ()),
    "mlopsc_topk_f64": ("mlopsc_topk_f64.c", ()),
    "mlopsc_topk_i8": ("mlopsc_topk_i8.c", ()),
    "mlopsc_topk_i16": ("mlopsc_topk_i16.c", ()),
    "mlopsc_topk_i32": ("mlopsc_topk_i32.c", ()),
    "mlopsc_topk_i64": ("mlopsc_topk_i64.c", ()),
    "mlopsc_topk_u8": ("mlopsc_topk_u8.c", ()),
    "mlopsc_topk_u16": ("mlopsc_topk_u16.c", ()),
    "mlopsc_topk_u32": ("mlopsc_topk_u32.c", ()),
    "mlopsc_topk_u64": ("mlopsc_topk_u64.c", ()),
    "mlopsc_tree_keys_bits_f32": ("mlopsc_tree_keys_bits_f32.c", ()),
    "mlopsc_tree_keys_rank_f32": ("mlopsc_tree_keys_rank_f32.c", ()),
    "mlopsc_tree_keys_rank_f64": ("mlopsc_tree_keys_rank_f64.c", ()),
    "mlopsc_tree_short_direct_f32": ("mlopsc_tree_short_direct_f32.c", ()),
    "mlopsc_tree_short_direct_f64": ("mlopsc_tree_short_direct_f64.c", ()),
    "mlopsc_tree_short_shared_f32": ("mlopsc_tree_short_shared_f32.c", ()),
    "mlopsc_tree_short_shared_f64": ("mlopsc_tree_short_shared_f64.c", ()),
    "mlopsc_tree_long_direct_f32": ("mlopsc_tree_long_direct_f32.c", ()),
    "mlopsc_tree_long_shared_f32": ("mlopsc_tree_long_shared_f32.c", ()),
    "mlopsc_trees_f32_u16": ("mlopsc_trees_f32_u16.c", ()),
    "mlopsc_trees_f32_u32": ("mlopsc_trees_f32_u32.c", ()),
    "mlopsc_trees_f64_u16": ("mlopsc_trees_f64_u16.c", ()),
    "mlopsc_trees_f64_u32": ("mlopsc_trees_f64_u32.c", ()),
    "mlopsc_parallel": (POOL, ()),
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
    files = [folder / name for name in sorted(sources)]
    return _headers(files), files


def header_of(symbol: str) -> str:
    """Return the name of the header that declares a function of ``RUNTIME``."""
    path = kernels_dir() / "runtime" / RUNTIME[symbol][0]
    for header in (public_header(), *_headers([path])):
        if re.search(rf"\b{symbol}\b", header.read_text(encoding="utf-8")):
            return header.name
    raise CompilerError(f"no header declares '{symbol}'")


def program_files(program: Program) -> tuple[list[Path], list[Path]]:
    """Return the headers and sources that a program needs beside its generated kernels.

    Raises:
        CompilerError: It calls what the runtime does not have.
    """
    headers, sources = runtime_files(program.runtime_symbols)
    uses = {kernel.micro.source for kernel in program.kernels.values() if kernel.micro}
    micro = [kernels_dir() / "micro" / name for name in sorted(uses)]
    return headers + _headers(micro), sources + micro


def _headers(files: Iterable[Path]) -> list[Path]:
    """Return the headers beside ``files`` that they include, directly or not."""
    found: set[Path] = set()
    pending = list(files)
    while pending:
        path = pending.pop()
        names = _INCLUDE.findall(path.read_text(encoding="utf-8"))
        fresh = {path.with_name(name) for name in names if name != PUBLIC_HEADER} - found
        found |= fresh
        pending += fresh
    return sorted(found)
