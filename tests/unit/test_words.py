"""Functions on words compute what ``mlopsc.words`` says, and operands are packed as they want."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlopsc.host import cpu_flags, detect_host
from mlopsc.lower.integer_packing import (
    Requantisation,
    convolution_words,
    depthwise_elements,
    depthwise_words,
    fits,
    panel_words,
    wrapped,
)
from mlopsc.tools import run_zig
from mlopsc.words import OPERATIONS, function_name, llvm_function

Array = np.ndarray[Any, Any]
LANES = (1, 2, 4, 8, 16)
NEEDS = {"dot_vnni": {"avx512_vnni"}, "dot_madd": {"avx2", "avx512bw"}, "dot_sdot": {"asimddp"}}


def _dot(x_type: str) -> Callable[..., Array]:
    def compute(a: Array, x: Array, w: Array) -> Array:
        shape = (a.size, 4)
        products = x.view(x_type).reshape(shape).astype(np.int64) * w.view(np.int8).reshape(shape)
        return (a + products.sum(axis=1)).astype(np.int32)

    return compute


def _pack(*elements: Array) -> Array:
    return np.stack(elements, axis=1).copy().view(np.int32)[:, 0]


def _scale(a: Array, m: Array, c: Array) -> Array:
    return ((a.astype(np.int64) * m + c) >> 32).astype(np.int32)


EXPECTED: dict[str, Callable[..., Array]] = {
    "dot_plain": _dot("int8"),
    "dot_sdot": _dot("int8"),
    "dot_vnni": _dot("uint8"),
    "dot_madd": _dot("uint8"),
    "pack": _pack,
    "scale": _scale,
}


def _wrapper(operation: str, lanes: int) -> str:
    """Return a function that loads operands, calls, and stores."""
    bits = OPERATIONS[operation].bits
    types = [f"i{b}" if lanes == 1 else f"<{lanes} x i{b}>" for b in bits]
    result = "i32" if lanes == 1 else f"<{lanes} x i32>"
    loads = [f"  %v{i} = load {t}, ptr %p{i}, align 1" for i, t in enumerate(types)]
    arguments = ", ".join(f"{t} %v{i}" for i, t in enumerate(types))
    pointers = ", ".join(f"ptr %p{i}" for i in range(len(bits) + 1))
    name = function_name(operation, lanes)
    return "\n".join(
        [
            f"define void @run_{name}({pointers}) {{",
            *loads,
            f"  %r = call {result} @{name}({arguments})",
            f"  store {result} %r, ptr %p{len(bits)}, align 1",
            "  ret void\n}",
        ]
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("words")
    flags, pieces = cpu_flags(), []
    for operation in OPERATIONS:
        if NEEDS.get(operation, set()) <= flags:
            for lanes in LANES:
                pieces += [
                    llvm_function(function_name(operation, lanes)),
                    _wrapper(operation, lanes),
                ]
    (folder / "words.ll").write_text("\n".join(pieces), encoding="utf-8")
    toolchain = detect_host()["toolchain"]
    run_zig(
        ["cc", "-shared", "-nostdlib", "-O1", "-Wno-override-module",
         "-target", toolchain["target"], f"-mcpu={toolchain['cpu']}", "-o", "words.so", "words.ll"],
        cwd=folder,
    )  # fmt: skip
    return ctypes.CDLL(str(Path(folder) / "words.so"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_words_compute_their_definition(library: Any, operation: str) -> None:
    if not NEEDS.get(operation, set()) <= cpu_flags():
        pytest.skip("this processor does not have the instruction")
    rng = np.random.default_rng(3)
    for lanes in LANES:
        for extreme in (False, True):
            given = [
                _draw(rng, bits, lanes, extreme=extreme) for bits in OPERATIONS[operation].bits
            ]
            if operation == "scale":
                given[1] = np.abs(np.maximum(given[1], -(2**31) + 1))
                given[2] = rng.integers(-(2**40), 2**40, lanes)
            result = np.zeros(lanes, np.int32)
            function = getattr(library, f"run_{function_name(operation, lanes)}")
            function(*(ctypes.c_void_p(v.ctypes.data) for v in (*given, result)))
            assert np.array_equal(result, EXPECTED[operation](*given)), (lanes, extreme)


def _draw(rng: np.random.Generator, bits: int, lanes: int, *, extreme: bool) -> Array:
    """Return integers of a width; if ``extreme``, their bytes are those that saturate or carry."""
    octets = rng.integers(0, 256, (lanes, bits // 8))
    if extreme:
        octets = rng.choice([0, 1, 127, 128, 129, 255], (lanes, bits // 8))
    return octets.astype(np.uint8).view(f"<i{bits // 8}")[:, 0].copy()


def test_packed_convolution_multiplies_the_same_pairs() -> None:
    rng = np.random.default_rng(0)
    w = rng.integers(-128, 128, (40, 10, 3, 2)).astype(np.int8)
    packed = convolution_words(w, 16, 8)
    assert packed.shape == (3, 2, 3, 2, 2, 1, 16)
    octets = packed.view(np.int8).reshape(3, 2, 3, 2, 2, 1, 16, 4)
    for f, c, y, x in ((0, 0, 0, 0), (17, 9, 2, 1), (39, 4, 1, 0)):
        assert octets[f // 16, c // 8, y, x, c % 8 // 4, 0, f % 16, c % 4] == w[f, c, y, x]
    assert not octets[2, :, :, :, :, 0, 8:].any(), "features that do not exist"
    assert not octets[:, 1, :, :, 1].any(), "channels that do not exist"


def test_packed_depthwise_and_panels_multiply_the_same_pairs() -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-128, 128, (12, 1, 3, 5)).astype(np.int8)
    taps = depthwise_words(w, 8).view(np.int8).reshape(2, 3, 2, 8, 4)
    elements = depthwise_elements(w, 8)
    for c, y, x in ((0, 0, 0), (11, 2, 4), (5, 1, 3)):
        assert taps[c // 8, y, x // 4, c % 8, x % 4] == w[c, 0, y, x]
        assert elements[c // 8, y, x, c % 8] == w[c, 0, y, x]
    matrix = rng.integers(-128, 128, (8, 19)).astype(np.int8)
    panels = panel_words(matrix, 16).view(np.int8).reshape(2, 2, 16, 4)
    for k, n in ((0, 0), (7, 18), (5, 15)):
        assert panels[n // 16, k // 4, n % 16, k % 4] == matrix[k, n]


def test_requantisation_has_everything_in_one_constant() -> None:
    made = Requantisation.of(np.array([1 << 30, 3]), np.array([5, -7]), 9, 0)
    sums = np.array([1000, -1000])
    expected = [((s + b) * m + 2**31 >> 32) + 9 for s, b, m in ((1000, 5, 1 << 30), (-1000, -7, 3))]
    assert _scale(sums, made.multiplier, made.constant).tolist() == expected
    assert made.bias is None
    shifted = Requantisation.of(np.array([7]), np.array([100]), -3, 2)
    assert shifted.bias is not None
    assert shifted.constant.tolist() == [2**31 - 3 * 2**32]


def test_sums_that_leave_32_bits_are_refused() -> None:
    deep = np.full((1, 66_400), 127, np.int8)
    assert fits(deep[:, :66_300], 255)
    assert not fits(deep, 255)
    assert wrapped(2**31) == -(2**31)
    assert wrapped(-5) == -5
