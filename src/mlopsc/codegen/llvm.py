"""Kernels as LLVM IR, optimised by TVM's own LLVM and ready for any compiler that takes IR.

IR rather than an object: one compiler then makes every object of a library, with the same flags and
in every object format. Debug information and helpers that compilers bring themselves are removed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm_ffi.structural import structural_walk

from mlopsc import integers, words

_HALF_HELPERS = re.compile(
    r"^define weak dso_local \w+ @__(?:truncsfhf2|extendhfsf2)\(.*?^}\n", re.MULTILINE | re.DOTALL
)

_ADDRESS = re.compile(r'"(0x[0-9a-f]{6,16})')


def write_llvm(kernels: Any, target: Any, folder: Path) -> Path:
    """Write ``kernels.ll`` for ``target`` (a ``tvm.target.Target`` of kind llvm)."""
    transform = tirx.transform
    module = tvm.transform.Sequential(
        [transform.FP8StorageLegalize(), transform.BF16StorageLegalize(), transform.LowerIntrin()]
    )(_with_integers(kernels))
    text = _optimised(module, target)
    path = folder / "kernels.ll"
    path.write_text(_clean(text), encoding="utf-8")
    return path


def _optimised(module: Any, target: Any) -> str:
    """Return the IR of ``module`` as TVM's LLVM leaves it.

    LLVM 22 at times joins scalars to vectors (SLP) ahead of what they are made of, and says so when
    it verifies the module: such modules do without.
    """
    build = tvm.get_global_func("target.build.llvm")
    try:
        made = build(module, target)
    except tvm.error.InternalError as error:
        if "Instruction does not dominate all uses" not in str(error):
            raise
        made = build(module, _with_option(target, "-vectorize-slp:bool=0"))
    return str(made.inspect_source("ll"))


def _with_option(target: Any, option: str) -> Any:
    """Return ``target`` with one more option of LLVM."""
    description = {name: value for name, value in target.export().items() if name != "host"}
    options = [*description.get("cl-opt", ()), option]
    made = tvm.target.Target({**description, "cl-opt": options})
    return made.with_host(made)


def _with_integers(kernels: Any) -> Any:
    """Return ``kernels`` with what they call of ``integers`` and ``words``, for LLVM to inline."""
    called: set[str] = set()

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.call_pure_extern":
            called.add(str(call.args[0].value))

    functions = dict(kernels.functions.items())
    for function in functions.values():
        structural_walk(function.body, (tvm.ir.Call, visit))
    texts = [
        made.llvm_function(name)
        for name in sorted(called)
        for made in (integers, words)
        if made.is_function(name)
    ]
    if texts:
        var, first = next(iter(functions.items()))
        imported = tvm.ir.StringImm("\n".join(texts))
        body = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", imported, first.body)
        functions[var] = first.with_body(body)
    return tvm.IRModule(functions)


def _clean(text: str) -> str:
    text = _HALF_HELPERS.sub("", text)
    text = text.replace("emissionKind: FullDebug", "emissionKind: NoDebug")
    text = text.replace('source_filename = "TVMMod"', 'source_filename = "kernels"')
    text = text.replace("define dllexport ", "define hidden ")
    # Nobody reads the flag of an inexact result; keeping it takes instructions on some machines.
    text = text.replace("@llvm.nearbyint.", "@llvm.rint.")
    # Alias classes are named after addresses of this process.
    names: dict[str, str] = {}
    return _ADDRESS.sub(lambda m: f'"b{names.setdefault(m[1], str(len(names)))}', text)
