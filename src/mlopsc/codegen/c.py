"""Kernels as portable C11 that a person can review.

TVM's C generator prints float literals with seven digits, includes its own headers and promises
nothing about aliasing; this module mends all three, so that the C computes the same bits as the
objects and depends on nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm_ffi.structural import structural_map

_PROLOGUE = """\
/* Kernels of a compiled model: generated, self-contained C11.
 * Compile with -fno-strict-aliasing: exact float constants are written as their bits. */
#include <stdbool.h>
#include <stdint.h>

"""
_DROPPED = ("#include", "#define TVM_", "#ifdef __cplusplus", 'extern "C"', "#endif", "void* __tvm",
            "// tvm target", "TVM_DLL float mlopsc_")  # fmt: skip
_SIGNATURE = re.compile(r"^(?:TVM_DLL )?(void|int32_t) (\w+)\(([^)]*)\)", re.MULTILINE)
_EXTERN = re.compile(r"^TVM_DLL (.*);$", re.MULTILINE)


def write_c(kernels: Any, target: Any, folder: Path) -> Path:
    """Write ``kernels.c`` (``target`` is a ``tvm.target.Target`` of kind c)."""
    module = tvm.IRModule(
        {
            var: function.with_body(structural_map(function.body, (tirx.FloatImm, _exact)))
            for var, function in kernels.functions.items()
        }
    )
    transform = tirx.transform
    module = tvm.transform.Sequential(
        [transform.FP8StorageLegalize(), transform.BF16StorageLegalize(), transform.LowerIntrin()]
    )(module)
    source = str(tvm.get_global_func("target.build.c")(module, target).inspect_source())
    path = folder / "kernels.c"
    path.write_text(_clean(source), encoding="utf-8")
    return path


def _exact(literal: Any) -> Any:
    """Replace a float32 literal that seven digits do not determine by its bits."""
    if str(literal.ty) != "float32" or not np.isfinite(literal.value):
        return literal
    value = np.float32(literal.value)
    if np.float32(f"{value:e}") == value:
        return literal
    return tirx.reinterpret("float32", tirx.const(int(value.view("<u4")), "uint32"))


def _clean(source: str) -> str:
    externs = sorted(
        set(re.findall(r"\b(mlopsc_\w+f)\(", source))
    )
    lines = [line for line in source.splitlines() if not line.startswith(_DROPPED)]
    body = _SIGNATURE.sub(_restrict, "\n".join(lines).strip())
    declared = set()
    kept = []
    for line in body.splitlines():
        found = _EXTERN.match(line)
        if found:
            if found[1] in declared:
                continue
            declared.add(found[1])
            line = f"extern {found[1]};"
        kept.append(line)
    prototypes = "".join(
        f"extern float {name}(float{', float' if name == 'mlopsc_powf' else ''});\n"
        for name in externs
    )
    return _PROLOGUE + prototypes + "\n".join(kept) + "\n"


def _restrict(match: re.Match[str]) -> str:
    parameters = re.sub(r"(\w+)\* (\w+)", r"\1* restrict \2", match[3])
    return f"{match[1]} {match[2]}({parameters})"
