"""Arithmetic on integers as small inline functions: the same results in C and in LLVM IR.

Integers of ONNX wrap. TVM's do not: its simplifier takes integers for unbounded (``x + 1 > x``),
its LLVM generator promises that 32 and 64 bits never overflow, and its C leaves 8 and 16 bits in
the ``int`` that C computes them in. So kernels call these functions for what they compute of
elements, which TVM cannot look into and compilers inline. Indices stay expressions of TVM.

An integer divided by zero is 0, as in NumPy: a trap would end the caller's process.
"""

from __future__ import annotations

from typing import Final, Literal

from mlopsc.dtypes import DTYPES

# ``div`` truncates, ``rem`` has the sign of the dividend, ``mod`` that of the divisor; ``shl``
# expects less than the width.
Operation = Literal["add", "sub", "mul", "div", "rem", "mod", "shl"]
OPERATIONS: Final[tuple[Operation, ...]] = ("add", "sub", "mul", "div", "rem", "mod", "shl")
_TYPES: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_PREFIX: Final = "wrap_"
_C_SIGNS: Final = {"add": "+", "sub": "-", "mul": "*", "shl": "<<"}

# Of signed integers, the least number by -1 traps, too; a divisor of 1 stands for those that trap.
_LLVM_SAFE_SIGNED: Final = """\
  %zero = icmp eq {t} %b, {zero}
  %minus = icmp eq {t} %b, {minus}
  %traps = or {i1} %zero, %minus
  %safe = select {i1} %traps, {t} {one}, {t} %b
"""
_LLVM_SAFE_UNSIGNED: Final = """\
  %zero = icmp eq {t} %b, {zero}
  %safe = select {i1} %zero, {t} {one}, {t} %b
"""
_LLVM_SIGNED: Final = {
    "div": _LLVM_SAFE_SIGNED
    + """\
  %quotient = sdiv {t} %a, %safe
  %negated = sub {t} {zero}, %a
  %some = select {i1} %minus, {t} %negated, {t} %quotient
  %r = select {i1} %zero, {t} {zero}, {t} %some
""",
    "rem": _LLVM_SAFE_SIGNED + "  %r = srem {t} %a, %safe\n",
    "mod": _LLVM_SAFE_SIGNED
    + """\
  %rest = srem {t} %a, %safe
  %signs = xor {t} %rest, %safe
  %differ = icmp slt {t} %signs, {zero}
  %some = icmp ne {t} %rest, {zero}
  %wrong = and {i1} %differ, %some
  %moved = add {t} %rest, %safe
  %r = select {i1} %wrong, {t} %moved, {t} %rest
""",
}
_LLVM_UNSIGNED: Final = {
    "div": _LLVM_SAFE_UNSIGNED
    + "  %some = udiv {t} %a, %safe\n  %r = select {i1} %zero, {t} {zero}, {t} %some\n",
    "rem": _LLVM_SAFE_UNSIGNED + "  %r = urem {t} %a, %safe\n",
    "mod": _LLVM_SAFE_UNSIGNED + "  %r = urem {t} %a, %safe\n",
}


def function_name(operation: Operation, dtype: str) -> str:
    """Return the name of the function that computes ``operation`` of two ``dtype``.

    LLVM IR has them of vectors, too: ``int32x8``.
    """
    return f"{_PREFIX}{operation}_{dtype}"


def is_function(name: str) -> bool:
    """Whether ``name`` is the name of one of the functions."""
    return name.startswith(_PREFIX)


def _c(operation: Operation, dtype: str) -> str:
    c = DTYPES[dtype].c
    unsigned = "uint64_t" if dtype.endswith("64") else "uint32_t"
    return f"static inline {c} {function_name(operation, dtype)}({c} a, {c} b) {{\n" + (
        f"  return ({c})(({unsigned})a {_C_SIGNS[operation]} ({unsigned})b);\n}}"
        if operation in _C_SIGNS
        else _c_division(operation, c, unsigned, signed=not dtype.startswith("u"))
    )


def _c_division(operation: Operation, c: str, unsigned: str, *, signed: bool) -> str:
    sign = "/" if operation == "div" else "%"
    if not signed:
        return f"  return b == 0 ? 0 : ({c})(a {sign} b);\n}}"
    if operation == "div":
        return (
            f"  if (b == -1) return ({c})(0 - ({unsigned})a);\n"
            f"  return b == 0 ? 0 : ({c})(a / b);\n}}"
        )
    lines = f"  {c} rest = b == 0 || b == -1 ? 0 : ({c})(a % b);\n"
    if operation == "rem":
        return lines + "  return rest;\n}"
    return lines + f"  return rest != 0 && (rest < 0) != (b < 0) ? ({c})(rest + b) : rest;\n}}"


def llvm_function(name: str) -> str:
    """Return the definition of one of the functions in LLVM IR."""
    _, operation, dtype = name.split("_")
    scalar, _, lanes = dtype.partition("x")
    t = element = f"i{DTYPES[scalar].itemsize * 8}"
    words = {"i1": "i1", "zero": "0", "one": "1", "minus": "-1"}
    if lanes:
        t = f"<{lanes} x {element}>"
        words = {key: f"splat ({element} {word})" for key, word in words.items()}
        words["i1"] = f"<{lanes} x i1>"
    divisions = _LLVM_UNSIGNED if dtype.startswith("u") else _LLVM_SIGNED
    body = divisions.get(operation, f"  %r = {operation} {{t}} %a, %b\n").format(t=t, **words)
    return f"define {t} @{name}({t} %a, {t} %b) {{\n{body}  ret {t} %r\n}}"


# Definitions by name.
C_FUNCTIONS: Final[dict[str, str]] = {
    function_name(operation, dtype): _c(operation, dtype)
    for operation in OPERATIONS
    for dtype in _TYPES
}
