"""Turns a target file's ``[compile]`` table into TVM's own target object."""

from __future__ import annotations

from typing import Any

import tvm

from mlopsc.schema.target import Generator, Target

# As in toolchain.C_FLAGS: LLVM 22 groups strided reads whose index wraps without a check, and makes
# loops with gathers endless.
_LLVM_OPTIONS = ("-max-interleave-group-factor:uint=1", "-enable-arm-maskedgatscat:bool=0")


# With these TVM would make vectors of a length that is known only where they run.
_SCALABLE = {"+v", "+sve", "+sve2"}


def tvm_target(target: Target, generator: Generator, *, lowering: bool = False) -> Any:
    """Return the ``tvm.target.Target``, bound to itself as host.

    Args:
        target: What to compile for.
        generator: Who prints the kernels.
        lowering: Leave out features that change how loops are lowered: all vectors have the length
            that ``[hardware]`` says, and machines with longer registers use a part of them.

    Kernels are lowered the same way for both generators; the C generator replaces the kind only
    when it prints.
    """
    description: dict[str, Any] = {"kind": "llvm", "mtriple": target.compile.triple}
    description["cl-opt"] = list(_LLVM_OPTIONS)
    if target.compile.cpu:
        description["mcpu"] = target.compile.cpu
    if target.compile.features:
        hidden = _SCALABLE if lowering else set()
        description["mattr"] = [f for f in target.compile.features if f not in hidden]
    if target.compile.abi:
        description["mabi"] = target.compile.abi
    if generator == "c":
        description = {"kind": "c"}
    made = tvm.target.Target(description)
    return made.with_host(made)
