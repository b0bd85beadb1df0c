"""Kernels as portable C11 that a person can review.

Three things in TVM's C generator are mended before it prints, because they are wrong or depend on
its runtime: ``max`` and ``min`` remember the value of a load across a store that changes it; float
literals have seven digits; and pointers promise nothing about aliasing. All three become calls of
small inline functions or qualifiers, so that the C computes what the LLVM kernels compute.

What compilers warn of is not printed either: comparisons that types alone decide are decided here,
parameters that nothing reads are said to be unused, and sums start from a value that a compiler can
see.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm_ffi.structural import structural_map

from mlopsc.codegen.comparisons import decided
from mlopsc.dtypes import DTYPES
from mlopsc.integers import C_FUNCTIONS
from mlopsc.kernels import RUNTIME, header_of

_DROPPED = (
    "#include", "#define TVM_", "#ifdef __cplusplus", 'extern "C"', "#endif", "void* __tvm",
    "// tvm target",
)  # fmt: skip
# Functions of libm that kernels may call and that the generator does not declare.
_LIBM = (
    "float fabsf(float)", "double fabs(double)", "float fmodf(float, float)",
    "double fmod(double, double)",
    *(f"double {name}(double)" for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "erf", "sinh", "tan", "tanh",
    )),
)  # fmt: skip
_SIGNATURE = re.compile(r"^(?:TVM_DLL )?(void|int32_t) (\w+)\(([^)]*)\)", re.MULTILINE)
_BODY = re.compile(
    r"^(?P<head>(?:TVM_DLL )?(?:void|int32_t) \w+\((?P<parameters>[^)]*)\) \{\n)(?P<body>.*?^\}$)",
    re.MULTILINE | re.DOTALL,
)
# A sum that its first addition sets: compilers do not always see that.
_SUM = re.compile(r"^( +\w+ \w+\[1\]);$", re.MULTILINE)
_EXTERN = re.compile(r"^TVM_DLL (\w[^;]*);$", re.MULTILINE)


def write_c(kernels: Any, target: Any, folder: Path) -> Path:
    """Write ``kernels.c`` (``target`` is a ``tvm.target.Target`` of kind c)."""
    helpers = dict(C_FUNCTIONS)
    mend = _mender(helpers)
    module = tvm.IRModule(
        {
            var: function.with_body(structural_map(function.body, mend))
            for var, function in kernels.functions.items()
        }
    )
    transform = tirx.transform
    module = tvm.transform.Sequential(
        [transform.FP8StorageLegalize(), transform.BF16StorageLegalize(), transform.LowerIntrin()]
    )(module)
    # LowerIntrin may bring new ones, of its own.
    module = tvm.IRModule(
        {
            var: function.with_body(structural_map(function.body, mend))
            for var, function in module.functions.items()
        }
    )
    source = str(tvm.get_global_func("target.build.c")(module, target).inspect_source())
    path = folder / "kernels.c"
    path.write_text(_clean(source, helpers), encoding="utf-8")
    return path


def _mender(helpers: dict[str, str]) -> tuple[tuple[Any, Callable[[Any], Any]], ...]:
    """Return callbacks that replace what is printed wrongly; fills ``helpers`` with their C."""

    def select(sign: str, word: str) -> Callable[[Any], Any]:
        def replace(node: Any) -> Any:
            dtype = str(node.ty)
            if dtype not in DTYPES:
                return node
            name, c = f"k_{word}_{dtype}", DTYPES[dtype].c
            helpers[name] = (
                f"static inline {c} {name}({c} a, {c} b) {{ return a {sign} b ? a : b; }}"
            )
            return tirx.call_pure_extern(dtype, name, node.a, node.b)

        return replace

    def exact(literal: Any) -> Any:
        dtype = str(literal.ty)
        if dtype not in ("float32", "float64"):
            return literal
        value = np.dtype(dtype).type(literal.value)
        if np.isfinite(value) and np.dtype(dtype).type(f"{value:e}") == value:
            return literal
        bits = "uint32" if dtype == "float32" else "uint64"
        name, c, u = f"k_bits_{dtype}", DTYPES[dtype].c, DTYPES[bits].c
        helpers[name] = (
            f"static inline {c} {name}({u} bits) {{\n"
            f"  union {{ {u} u; {c} f; }} v;\n  v.u = bits;\n  return v.f;\n}}"
        )
        pattern = int(value.view("<u4" if bits == "uint32" else "<u8"))
        return tirx.call_pure_extern(dtype, name, tirx.const(pattern, bits))

    def absolute(call: Any) -> Any:
        dtype = str(call.ty)
        return tirx.call_pure_extern(dtype, "fabsf" if dtype == "float32" else "fabs", *call.args)

    def reinterpreted(call: Any) -> Any:
        found, wanted = str(call.args[0].ty), str(call.ty)
        if found not in DTYPES or wanted not in DTYPES:
            return call
        name, a, b = f"k_{wanted}_of_{found}", DTYPES[found].c, DTYPES[wanted].c
        helpers[name] = (
            f"static inline {b} {name}({a} value) {{\n"
            f"  union {{ {a} from; {b} to; }} v;\n  v.from = value;\n  return v.to;\n}}"
        )
        return tirx.call_pure_extern(wanted, name, call.args[0])

    def call(node: Any) -> Any:
        name = getattr(node.op, "name", "")
        return mended[name](node) if name in mended else node

    mended = {"tirx.fabs": absolute, "tirx.reinterpret": reinterpreted}
    return (
        (tvm.ir.Call, call),
        (tirx.Max, select(">", "max")),
        (tirx.Min, select("<", "min")),
        (tirx.FloatImm, exact),
        *((kind, decided) for kind in (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE)),
    )


def _clean(source: str, helpers: dict[str, str]) -> str:
    """Replace the generator's prologue by ours and qualify pointers."""
    called = set(re.findall(r"\b([A-Za-z_]\w*)\(", source))
    externs = {
        found[1]
        for found in _EXTERN.finditer(source)
        if not any(f" {name}(" in found[1] for name in helpers)
        and "*" not in found[1]
        and _name(found[1]) not in RUNTIME
    }
    known = {_name(text) for text in externs}
    externs |= {text for text in _LIBM if _name(text) not in known}
    prototypes = sorted(f"extern {text};" for text in externs if _name(text) in called)
    headers = sorted({header_of(name) for name in called if name in RUNTIME})
    lines = [
        line
        for line in source.splitlines()
        if not line.startswith(_DROPPED) and not _EXTERN.fullmatch(line)
    ]
    body = _BODY.sub(_unused, _SUM.sub(r"\1 = {0};", "\n".join(lines).strip()))
    body = _SIGNATURE.sub(_restrict, body)
    return "\n".join(
        [
            "/* Kernels of a compiled model: generated, self-contained C11. */",
            "#include <stdbool.h>",
            "#include <stdint.h>",
            "",
            *(f'#include "{name}"' for name in headers),
            "",
            *prototypes,
            "",
            *(helpers[name] for name in sorted(helpers) if name in called),
            "",
            body,
            "",
        ]
    )


def _name(prototype: str) -> str:
    return prototype.split("(")[0].split()[-1]


def _restrict(match: re.Match[str]) -> str:
    parameters = re.sub(r"(\w+)\* (\w+)", r"\1* restrict \2", match[3])
    return f"{match[1]} {match[2]}({parameters})"


def _unused(match: re.Match[str]) -> str:
    """Say of parameters that nothing reads that this is meant."""
    names = [p.split()[-1].lstrip("*") for p in match["parameters"].split(",") if p.strip()]
    used = set(re.findall(r"\w+", match["body"]))
    lines = "".join(f"  (void){name};\n" for name in names if name not in used)
    return f"{match['head']}{lines}{match['body']}"
