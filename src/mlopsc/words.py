"""Arithmetic on words of four 8-bit integers, as small inline functions in LLVM IR.

Machines multiply 8-bit integers four at a time: a *word* is 32 bits of memory with four of them,
and the sum of products of two words is one step of a convolution or a matrix product, for each lane
of a vector. TVM has no such types, so kernels call these functions, which it cannot look into and
LLVM inlines; ``lower.ops.words`` makes the calls. What they compute does not depend on the machine:

- ``dot_plain(a, x, w) = a + x[0] w[0] + ... + x[3] w[3]``, all signed; ``dot_sdot`` is the same by
  Arm's instruction. ``dot_vnni`` and ``dot_madd``, by those of x86 with and without VNNI, take
  ``x`` as unsigned. Sums wrap.
- ``pack(x0, x1, x2, x3)`` is the word of four elements, the first in the lowest byte.
- ``scale(a, m, c) = (a * m + c) >> 32``, with a product and a sum of 64 bits: requantisation
  (docs/integer-semantics.md), with what does not depend on the input in ``c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

Dot = Literal["plain", "madd", "vnni", "sdot"]
WORD_BYTES: Final = 4
_PREFIX: Final = "word_"


def function_name(operation: str, lanes: int) -> str:
    """Return the name of the function that computes ``operation`` on vectors of ``lanes``."""
    return f"{_PREFIX}{operation}_x{lanes}"


def is_function(name: str) -> bool:
    """Whether ``name`` is the name of one of the functions."""
    return name.startswith(_PREFIX)


def llvm_function(name: str) -> str:
    """Return the definition of one of the functions, and what it declares, in LLVM IR."""
    operation, _, lanes = name.removeprefix(_PREFIX).rpartition("_x")
    made = OPERATIONS[operation]
    count = int(lanes)
    scalar = count == 1
    names = "axwm"[: len(made.bits)]
    parameters, casts = [], []
    for letter, bits in zip(names, made.bits, strict=True):
        vector = f"<{count} x i{bits}>"
        parameters.append(f"{f'i{bits}' if scalar else vector} %{letter}{'_' * scalar}")
        if scalar:
            casts.append(f"  %{letter} = bitcast i{bits} %{letter}_ to {vector}")
    declared, lines = made.body(count)
    result = "i32" if scalar else f"<{count} x i32>"
    if scalar:
        lines = [*casts, *lines, "  %r_ = bitcast <1 x i32> %r to i32"]
    body = "\n".join([*lines, f"  ret {result} %r{'_' * scalar}"])
    return f"{declared}define {result} @{name}({', '.join(parameters)}) {{\n{body}\n}}"


@dataclass(frozen=True)
class Operation:
    """How one function is written.

    Attributes:
        bits: Width of the elements of each argument (``%a``, ``%x``, ``%w``, ``%m``).
        body: Takes the number of lanes; gives a declaration, or "", and the lines that compute
            ``%r``, of 32-bit integers.
    """

    bits: tuple[int, ...]
    body: Callable[[int], tuple[str, list[str]]]


def _indices(numbers: Iterable[int]) -> str:
    return ", ".join(f"i32 {n}" for n in numbers)


def _pick(result: str, source: str, vector: str, numbers: list[int]) -> str:
    """Return the line that takes some elements of one vector."""
    return (
        f"  %{result} = shufflevector {vector} %{source}, {vector} poison, "
        f"<{len(numbers)} x i32> <{_indices(numbers)}>"
    )


def _plain(lanes: int) -> tuple[str, list[str]]:
    """Four multiply-adds of 32 bits."""
    words, lines, total = f"<{lanes} x i32>", [], "a"
    for k in range(4):
        for v in "xw":
            lines += [
                f"  %{v}l{k} = shl {words} %{v}, splat (i32 {24 - 8 * k})",
                f"  %{v}{k} = ashr {words} %{v}l{k}, splat (i32 24)",
            ]
        lines += [
            f"  %p{k} = mul {words} %x{k}, %w{k}",
            f"  %{'stur'[k]} = add {words} %{total}, %p{k}",
        ]
        total = "stur"[k]
    return "", lines


def _unsigned_plain(lanes: int) -> tuple[str, list[str]]:
    """What ``dot_vnni`` computes, where no instruction has as many lanes."""
    _, lines = _plain(lanes)
    unsigned = tuple(f"  %x{k} =" for k in range(4))
    return "", [x.replace("ashr", "lshr") if x.startswith(unsigned) else x for x in lines]


def _madd(lanes: int) -> tuple[str, list[str]]:
    """Two sums of two products of 16 bits, by x86's instruction for vectors without VNNI."""
    names = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}
    if lanes not in names:
        return _unsigned_plain(lanes)
    short, words = f"<{2 * lanes} x i16>", f"<{lanes} x i32>"
    intrinsic = f"llvm.x86.{names[lanes]}"
    lines = [
        f"  %xh = bitcast {words} %x to {short}",
        f"  %x0 = and {short} %xh, splat (i16 255)",
        f"  %x1 = lshr {short} %xh, splat (i16 8)",
        f"  %wh = bitcast {words} %w to {short}",
        f"  %wl = shl {short} %wh, splat (i16 8)",
        f"  %w0 = ashr {short} %wl, splat (i16 8)",
        f"  %w1 = ashr {short} %wh, splat (i16 8)",
    ]
    for k, (before, after) in enumerate((("a", "t"), ("t", "r"))):
        lines += [
            f"  %p{k} = call {words} @{intrinsic}({short} %x{k}, {short} %w{k})",
            f"  %{after} = add {words} %{before}, %p{k}",
        ]
    return f"declare {words} @{intrinsic}({short}, {short})\n", lines


def _instruction(
    name: str, sizes: dict[int, str], otherwise: Callable[[int], tuple[str, list[str]]]
) -> Callable[[int], tuple[str, list[str]]]:
    """Return the writer of a function that is one instruction.

    Args:
        name: Of LLVM's intrinsic, with a place for its size.
        sizes: By lanes, what stands in that place.
        otherwise: For other numbers of lanes.
    """

    def body(lanes: int) -> tuple[str, list[str]]:
        if lanes not in sizes:
            return otherwise(lanes)
        words, octets = f"<{lanes} x i32>", f"<{4 * lanes} x i8>"
        intrinsic = name.format(sizes[lanes])
        return f"declare {words} @{intrinsic}({words}, {octets}, {octets})\n", [
            f"  %xb = bitcast {words} %x to {octets}",
            f"  %wb = bitcast {words} %w to {octets}",
            f"  %r = call {words} @{intrinsic}({words} %a, {octets} %xb, {octets} %wb)",
        ]

    return body


def _pack(lanes: int) -> tuple[str, list[str]]:
    one, two = f"<{lanes} x i8>", f"<{2 * lanes} x i8>"
    both = _indices(range(2 * lanes))
    order = _indices(lanes * (k % 4) + k // 4 for k in range(4 * lanes))
    return "", [
        f"  %ax = shufflevector {one} %a, {one} %x, <{2 * lanes} x i32> <{both}>",
        f"  %wm = shufflevector {one} %w, {one} %m, <{2 * lanes} x i32> <{both}>",
        f"  %all = shufflevector {two} %ax, {two} %wm, <{4 * lanes} x i32> <{order}>",
        f"  %r = bitcast <{4 * lanes} x i8> %all to <{lanes} x i32>",
    ]


def _scale(lanes: int) -> tuple[str, list[str]]:
    """Halves of vectors, because products are twice as wide; their upper words are the result."""
    words = f"<{lanes} x i32>"
    parts = [range(lanes)] if lanes == 1 else [range(lanes // 2), range(lanes // 2, lanes)]
    half = len(parts[0])
    lines = []
    for k, part in enumerate(parts):
        numbers = list(part)
        long = f"<{half} x i64>"
        for v in "ax":
            lines += [
                _pick(f"{v}{k}", v, words, numbers),
                f"  %{v}l{k} = sext <{half} x i32> %{v}{k} to {long}",
            ]
        lines += [
            _pick(f"c{k}", "w", f"<{lanes} x i64>", numbers),
            f"  %p{k} = mul nsw {long} %al{k}, %xl{k}",
            f"  %s{k} = add {long} %p{k}, %c{k}",
            f"  %h{k} = bitcast {long} %s{k} to <{2 * half} x i32>",
        ]
    last = len(parts) - 1
    upper = _indices(range(1, 2 * lanes, 2))
    lines.append(
        f"  %r = shufflevector <{2 * half} x i32> %h0, <{2 * half} x i32> %h{last}, "
        f"<{lanes} x i32> <{upper}>"
    )
    return "", lines


OPERATIONS: Final[dict[str, Operation]] = {
    "dot_plain": Operation((32, 32, 32), _plain),
    "dot_madd": Operation((32, 32, 32), _madd),
    "dot_vnni": Operation(
        (32, 32, 32),
        _instruction(
            "llvm.x86.avx512.vpdpbusd.{}", {16: "512", 8: "256", 4: "128"}, _unsigned_plain
        ),
    ),
    "dot_sdot": Operation(
        (32, 32, 32),
        _instruction("llvm.aarch64.neon.sdot.{}", {4: "v4i32.v16i8", 2: "v2i32.v8i8"}, _plain),
    ),
    "pack": Operation((8, 8, 8, 8), _pack),
    "scale": Operation((32, 32, 64), _scale),
}
