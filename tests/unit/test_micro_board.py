"""The kernels for microcontrollers on emulated boards: for processors that Unicorn has not got."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY
from test_micro_kernels import (
    BITS,
    Array,
    convolve,
    draw,
    draw_conv,
    draw_weights,
    finish,
    of_bits,
    scales,
)

from mlopsc.lower.micro import (
    KERNELS,
    AddShape,
    ConvShape,
    DenseShape,
    MeanShape,
    Operator,
    TableShape,
    Variant,
)
from mlopsc.tools import run_program

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from micro_board import BoardKernels
from micro_machine import Arguments

_M0 = ("-mcpu=cortex-m0plus", "-mthumb")
_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_M55 = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")
BOARDS = [
    pytest.param("mve", "cortex-m55", (), marks=pytest.mark.tool("qemu-system-arm")),
    pytest.param("portable", "riscv32-imc", (), marks=pytest.mark.tool("qemu-system-riscv32")),
    *(
        pytest.param(
            variant,
            target,
            ("arm-none-eabi-gcc", *processor, *level),
            marks=[
                pytest.mark.tool("qemu-system-arm"),
                pytest.mark.tool("arm-none-eabi-gcc"),
                *slow,
            ],
        )
        for variant, target, processor in (
            ("mve", "cortex-m55", _M55),
            ("dsp", "cortex-m4f", _M4),
            ("portable", "cortex-m0plus", _M0),
        )
        for level, slow in (
            (("-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"), ()),
            (("-Os",), (pytest.mark.slow,)),
            (("-O3",), (pytest.mark.slow,)),
        )
    ),
]


@dataclass
class Case:
    """A call and what it must give."""

    operator: Operator
    arguments: Arguments
    expected: Array


@cache
def board(variant: Variant, target: str, compiler: tuple[str, ...]) -> BoardKernels:
    return BoardKernels(variant, target, compiler)


def check(variant: Variant, target: str, compiler: tuple[str, ...], cases: list[Case]) -> None:
    found = board(variant, target, compiler).call_all([(c.operator, c.arguments) for c in cases])
    for case, y in zip(cases, found, strict=True):
        message = f"{case.operator} {case.arguments.shape}"
        np.testing.assert_array_equal(y, case.expected.reshape(-1), message)


def conv_cases(variant: Variant, shape: ConvShape, operator: Operator, seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    kernel = KERNELS[variant][operator]
    x = draw(rng, shape.channels_in, shape.height_in, shape.width_in)
    depth = 1 if operator.startswith("depthwise") else shape.channels_in
    size = (shape.channels_out, depth, shape.kernel_height, shape.kernel_width)
    w = draw_weights(rng, operator, *size)
    bias, multiplier = scales(rng, shape.channels_out, shape.left_shift)
    expected = convolve(x, w, bias, multiplier, shape)
    return [
        Case(
            operator,
            Arguments(
                x, shape, expected.size, kernel.pack(w), bias, multiplier,
                scratch_bytes=kernel.scratch_bytes(shape), in_place=in_place,
            ),
            expected,
        )
        for in_place in ((False, True) if kernel.in_place(shape) else (False,))
    ]  # fmt: skip


@pytest.mark.parametrize(("variant", "target", "compiler"), BOARDS)
@pytest.mark.parametrize("bits", BITS)
def test_micro_convolutions_on_a_board(variant: Any, target: str, compiler: Any, bits: int) -> None:
    cases = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        kind = seed % 3
        shape = draw_conv(rng, depthwise=kind == 0, pointwise=kind == 1)
        operator = of_bits("depthwise" if kind == 0 else "conv", bits)
        cases += conv_cases(variant, shape, operator, seed)
    # More channels than a vector has lanes, whose columns neighbours share; more than one vector of
    # taps; channels too far apart for offsets of 16 bits; borders on all sides.
    for seed, given in enumerate((
        (24, 9, 7, 10, 9, 7, 3, 3, 1, 1, 1, 1, 1, 1),
        (17, 9, 10, 3, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1),
        (16, 8, 9, 5, 8, 9, 3, 5, 1, 1, 2, 1, 2, 2),
        (12, 7, 9, 4, 5, 5, 3, 3, 1, 1, 1, 2, 0, 0),
        (2, 5, 30, 3, 5, 15, 1, 19, 1, 2, 1, 1, 0, 9),
        (9, 97, 98, 1, 2, 2, 3, 3, 64, 64, 1, 1, 1, 1),
        (33, 6, 1, 1, 6, 1, 1, 1, 1, 1, 1, 1, 0, 0),
        (8, 2, 2, 3, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1),
    )):  # fmt: skip
        shape = ConvShape(*given, -7, 3, -128, 127, 0, given[6] * given[7])
        cases += conv_cases(variant, shape, of_bits("conv", bits), seed)
    check(variant, target, compiler, cases)


@pytest.mark.parametrize(("variant", "target", "compiler"), BOARDS)
@pytest.mark.parametrize("bits", BITS)
def test_micro_products_on_a_board(variant: Any, target: str, compiler: Any, bits: int) -> None:
    operator, cases = of_bits("dense", bits), []
    kernel = KERNELS[variant][operator]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows, depth, width = (int(v) for v in rng.integers(1, (4, 70, 14)))
        shift = int(rng.choice([0, 0, 3]))
        low, high = (-20, 90) if seed % 4 == 0 else (-128, 127)
        shape = DenseShape(rows, depth, width, int(rng.integers(-128, 128)), low, high, shift)
        x, w = draw(rng, rows, depth), draw_weights(rng, operator, width, depth)
        bias, multiplier = scales(rng, width, shift)
        expected = finish(x.astype(np.int64) @ w.astype(np.int64).T + bias, multiplier, shape)
        arguments = Arguments(x, shape, expected.size, kernel.pack(w), bias, multiplier)
        cases.append(Case(operator, arguments, expected))
    check(variant, target, compiler, cases)


@pytest.mark.parametrize(("variant", "target", "compiler"), BOARDS)
def test_micro_sums_averages_and_tables_on_a_board(
    variant: Any, target: str, compiler: Any
) -> None:
    cases = []
    for seed in range(40):
        rng, in_place = np.random.default_rng(seed), seed % 2 == 1
        n, rows = int(rng.integers(1, 70)), int(rng.integers(1, 5))
        a, b, table, x = draw(rng, n), draw(rng, n), draw(rng, 256), draw(rng, rows, n)
        wide_a, wide_b = a.astype(np.int64), b.astype(np.int64)
        added = AddShape(n, 3_000_000, -2_500_000, 12_345, 22, -100, 99)
        total = (wide_a * added.multiplier_a + wide_b * added.multiplier_b + added.constant) >> 22
        given = Arguments(a, added, n, b, in_place=in_place)
        cases.append(Case("add", given, np.clip(total, -100, 99)))
        shift = int(rng.choice([0, 2]))
        mean = MeanShape(rows, n, 5, -3, -110, 120, int(1.9 * 2**30 / n) >> shift, shift)
        expected = finish((x.astype(np.int64) - 5).sum(1), np.array([mean.multiplier]), mean)
        cases.append(Case("mean", Arguments(x, mean, rows, in_place=in_place), expected))
        given = Arguments(a, TableShape(n), n, table, in_place=in_place)
        cases.append(Case("table", given, table[wide_a + 128]))
    check(variant, target, compiler, cases)


@pytest.mark.tool("qemu-system-arm")
def test_instructions_of_kernels_are_counted_on_a_board() -> None:
    machine = board("mve", "cortex-m55", ())
    if b"-plugin" not in run_program(Path("qemu-system-arm"), ["-help"]).stdout:
        pytest.skip("this QEMU takes no plugins")
    counts = []
    for elements in (64, 128):
        x = np.arange(elements, dtype=np.int8)
        given = Arguments(x, TableShape(elements), elements, np.arange(-128, 128).astype(np.int8))
        np.testing.assert_array_equal(machine.call("table", given, counter=True), x)
        counts.append(machine.instructions)
    assert counts[1] - counts[0] == 5 * (128 - 64) // 16  # of a turn of the loop
