"""Turns a target file's ``[compile]`` table into TVM's own target object."""

from __future__ import annotations

from typing import Any

import tvm

from mlopsc.schema.target import Generator, Target

# As in toolchain.C_FLAGS: LLVM 22 groups strided reads whose index wraps without a check.
_LLVM_OPTIONS = ("-max-interleave-group-factor:uint=1",)


def tvm_target(target: Target, generator: Generator) -> Any:
    """Return the ``tvm.target.Target``, bound to itself as host.

    Kernels are lowered the same way for both generators; the C generator replaces the kind only
    when it prints.
    """
    description: dict[str, Any] = {"kind": "llvm", "mtriple": target.compile.triple}
    description["cl-opt"] = list(_LLVM_OPTIONS)
    if target.compile.cpu:
        description["mcpu"] = target.compile.cpu
    if target.compile.features:
        description["mattr"] = list(target.compile.features)
    if target.compile.abi:
        description["mabi"] = target.compile.abi
    if generator == "c":
        description = {"kind": "c"}
    made = tvm.target.Target(description)
    return made.with_host(made)
