"""The kernels for microcontrollers compute docs/integer-semantics.md, in every variant."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY

from mlopsc.lower.micro import (
    KERNELS,
    NARROW,
    AddShape,
    ConvShape,
    DenseShape,
    MeanShape,
    Operator,
    SoftmaxShape,
    TableShape,
    fit_taps,
)

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from micro_machine import Arguments, EmulatedKernels, NativeKernels

Array = np.ndarray[Any, Any]

# Variant and where it runs.
MACHINES = [
    ("portable", "native"),
    ("portable", "cortex-m0plus"),
    ("portable", "cortex-m7"),
    ("dsp", "cortex-m4f"),
]

BITS = [8, 4]  # of weights


def of_bits(operator: Operator, bits: int) -> Operator:
    """The same function for weights of so many bits."""
    return NARROW[operator] if bits == 4 else operator


@cache
def machine(variant: Any, where: str) -> NativeKernels | EmulatedKernels:
    return NativeKernels(variant) if where == "native" else EmulatedKernels(variant, where)


def draw(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-128, 128, shape, np.int8)


def draw_weights(rng: np.random.Generator, operator: str, *shape: int) -> Array:
    """Weights of the range that the operator takes; the least and the largest are among them."""
    low, high = (-8, 7) if operator.endswith("_s4") else (-128, 127)
    weights = rng.integers(low, high, shape, np.int8, endpoint=True)
    weights.flat[0], weights.flat[-1] = low, high
    return weights


def finish(total: Array, multiplier: Array, s: Any) -> Array:
    """Requantise int64 accumulators that are int32 in C."""
    wide = total << s.left_shift
    wide = np.clip(wide, -(2**31), 2**31 - 1)
    steps = ((wide * multiplier.astype(np.int64) + 2**31) >> 32) + s.zero_out
    return np.clip(steps, s.low, s.high).astype(np.int8)


def convolve(x: Array, w: Array, bias: Array, multiplier: Array, s: ConvShape) -> Array:
    """x [C, H, W], w [K, C / groups, R, S] -> [K, out, out]; depthwise where w has one channel."""
    reach_y = (s.height_out - 1) * s.stride_height + (s.kernel_height - 1) * s.dilation_height + 1
    reach_x = (s.width_out - 1) * s.stride_width + (s.kernel_width - 1) * s.dilation_width + 1
    wide = np.full(
        (
            s.channels_in,
            max(reach_y, s.pad_top + s.height_in),
            max(reach_x, s.pad_left + s.width_in),
        ),
        s.zero_in,
        np.int64,
    )
    rows, columns = slice(s.pad_top, s.pad_top + s.height_in), s.pad_left + s.width_in
    wide[:, rows, s.pad_left : columns] = x
    total = np.zeros((s.channels_out, s.height_out, s.width_out), np.int64)
    total += bias.astype(np.int64)[:, None, None]
    for ky in range(s.kernel_height):
        for kx in range(s.kernel_width):
            top, left = ky * s.dilation_height, kx * s.dilation_width
            part = wide[
                :,
                top : top + (s.height_out - 1) * s.stride_height + 1 : s.stride_height,
                left : left + (s.width_out - 1) * s.stride_width + 1 : s.stride_width,
            ]
            tap = w[:, :, ky, kx].astype(np.int64)
            if w.shape[1] == s.channels_in:
                total += np.einsum("kc,cyx->kyx", tap, part)
            else:
                total += np.repeat(part, s.channels_out // s.channels_in, 0) * tap[:, :, None]
    return finish(total, multiplier[:, None, None], s)


def draw_conv(rng: np.random.Generator, *, depthwise: bool, pointwise: bool) -> ConvShape:
    channels = int(rng.integers(1, 9))
    kernel = (1, 1) if pointwise else tuple(int(v) for v in rng.choice([1, 2, 3, 3, 3, 5], 2))
    stride = (1, 1) if pointwise else tuple(int(v) for v in rng.choice([1, 1, 2, 3], 2))
    dilation = tuple(int(v) for v in rng.choice([1, 1, 1, 2], 2))
    size = tuple(int(v) for v in rng.integers(1, 12, 2))
    before = (0, 0) if pointwise else tuple(int(rng.integers(0, k)) for k in kernel)
    after = (0, 0) if pointwise else tuple(int(rng.integers(0, k)) for k in kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    out = [
        max((n + a + b - r) // t + 1, 0)
        for n, a, b, r, t in zip(size, before, after, reach, stride, strict=True)
    ]
    if min(out) < 1:
        return draw_conv(rng, depthwise=depthwise, pointwise=pointwise)
    repeat = int(rng.integers(1, 3))
    narrow = rng.random() < 0.3
    return ConvShape(
        channels_in=channels,
        height_in=size[0],
        width_in=size[1],
        channels_out=channels * repeat if depthwise else int(rng.integers(1, 10)),
        height_out=out[0],
        width_out=out[1],
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
        pad_top=before[0],
        pad_left=before[1],
        zero_in=int(rng.integers(-128, 128)),
        zero_out=int(rng.integers(-128, 128)),
        low=int(rng.integers(-128, 0)) if narrow else -128,
        high=int(rng.integers(0, 128)) if narrow else 127,
        left_shift=int(rng.choice([0, 0, 1, 4, 20])),
        taps=kernel[0] * kernel[1],
    )


def scales(rng: np.random.Generator, count: int, left_shift: int) -> tuple[Array, Array]:
    """Biases and multipliers whose results fill the range of a byte, and sometimes leave it."""
    bias = rng.integers(-20000, 20000, count, dtype=np.int64)
    multiplier = rng.integers(1 << 20, 1 << 26, count, dtype=np.int64) >> min(left_shift, 10)
    return bias.astype(np.int32), multiplier.astype(np.int32)


def check_conv(
    variant: Any,
    where: str,
    shape: ConvShape,
    operator: Any,
    seed: int,
    affine: tuple[Array, Array] | None = None,
) -> None:
    rng = np.random.default_rng(seed)
    kernel = KERNELS[variant][operator]
    assert kernel.applies(shape)
    x = draw(rng, shape.channels_in, shape.height_in, shape.width_in)
    depth = 1 if operator.startswith("depthwise") else shape.channels_in
    size = (shape.channels_out, depth, shape.kernel_height, shape.kernel_width)
    w = draw_weights(rng, operator, *size)
    bias, multiplier = affine or scales(rng, shape.channels_out, shape.left_shift)
    expected = convolve(x, w, bias, multiplier, shape)
    for in_place in (False, True) if kernel.in_place(shape) else (False,):
        arguments = Arguments(
            x, shape, expected.size, kernel.pack(w), bias, multiplier,
            scratch_bytes=kernel.scratch_bytes(shape), in_place=in_place,
        )  # fmt: skip
        found = machine(variant, where).call(operator, arguments)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected, f"{shape}")


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["conv", "pointwise", "depthwise"])
def test_micro_convolutions_of_any_shape(variant: Any, where: str, kind: str, bits: int) -> None:
    operator = of_bits("depthwise" if kind == "depthwise" else "conv", bits)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = draw_conv(rng, depthwise=kind == "depthwise", pointwise=kind == "pointwise")
        check_conv(variant, where, shape, operator, seed)


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("bits", BITS)
def test_micro_convolution_in_parts_has_the_same_bits_and_less_scratch(
    variant: Any, where: str, bits: int
) -> None:
    operator = of_bits("conv", bits)
    kernel = KERNELS[variant][operator]
    shape = ConvShape(16, 6, 9, 16, 6, 9, 3, 3, 1, 1, 1, 1, 1, 1, -7, 3, -128, 127, 0, 9)
    assert fit_taps(kernel, shape, 1 << 20) == shape
    for limit in (900, 650, 0) if variant == "dsp" else (580, 512, 0):
        parted = fit_taps(kernel, shape, limit)
        assert parted.taps < 9
        assert kernel.scratch_bytes(parted) < kernel.scratch_bytes(shape)
        assert kernel.scratch_bytes(parted) <= limit or limit == 0
        check_conv(variant, where, parted, operator, limit)
    odd = replace(shape, channels_in=3)
    assert not kernel.applies(replace(odd, taps=2))
    assert fit_taps(kernel, odd, 0) == odd


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("bits", BITS)
def test_micro_products_of_any_shape(variant: Any, where: str, bits: int) -> None:
    operator = of_bits("dense", bits)
    kernel = KERNELS[variant][operator]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows, depth, width = (int(v) for v in rng.integers(1, (4, 70, 14)))
        narrow, shift = seed % 4 == 0, int(rng.choice([0, 0, 3]))
        low, high = (-20, 90) if narrow else (-128, 127)
        shape = DenseShape(rows, depth, width, int(rng.integers(-128, 128)), low, high, shift)
        x, w = draw(rng, rows, depth), draw_weights(rng, operator, width, depth)
        bias, multiplier = scales(rng, width, shift)
        expected = finish(x.astype(np.int64) @ w.astype(np.int64).T + bias, multiplier, shape)
        arguments = Arguments(x, shape, expected.size, kernel.pack(w), bias, multiplier)
        found = machine(variant, where).call(operator, arguments)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected, f"{shape}")


@pytest.mark.parametrize(("variant", "where"), MACHINES)
def test_micro_sums_averages_and_tables(variant: Any, where: str) -> None:
    call = machine(variant, where).call
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 40))
        a, b, table = draw(rng, n), draw(rng, n), draw(rng, 256)
        wide_a, wide_b = a.astype(np.int64), b.astype(np.int64)
        for in_place in (False, True):
            added = AddShape(n, 3_000_000, -2_500_000, 12_345, 22, -100, 99)
            total = (
                wide_a * added.multiplier_a + wide_b * added.multiplier_b + added.constant
            ) >> 22
            found = call("add", Arguments(a, added, n, b, in_place=in_place))
            np.testing.assert_array_equal(found, np.clip(total, -100, 99))

            rows = int(rng.integers(1, 5))
            x = draw(rng, rows, n)
            shift = int(rng.choice([0, 2]))
            mean = MeanShape(rows, n, 5, -3, -110, 120, int(1.9 * 2**30 / n) >> shift, shift)
            total = (x.astype(np.int64) - 5).sum(1)
            found = call("mean", Arguments(x, mean, rows, in_place=in_place))
            expected = finish(total, np.array([mean.multiplier]), mean)
            np.testing.assert_array_equal(found, expected)

            found = call("table", Arguments(a, TableShape(n), n, table, in_place=in_place))
            np.testing.assert_array_equal(found, table[wide_a + 128])

            exponentials = np.rint(np.exp(-0.07 * np.arange(256)) * 2**20).astype(np.uint32)
            softmax = SoftmaxShape(rows, n, -128, 1 << 16)
            wide = x.astype(np.int64)
            e = exponentials.astype(np.int64)[wide.max(1, keepdims=True) - wide]
            total = e.sum(1, keepdims=True)
            steps = (2 * e * softmax.scale + (total << 8)) // (total << 9) - 128
            found = call(
                "softmax",
                Arguments(x, softmax, x.size, exponentials=exponentials, in_place=in_place),
            )
            np.testing.assert_array_equal(found.reshape(x.shape), np.clip(steps, -128, 127))


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("bits", BITS)
def test_micro_depthwise_3x3_of_every_small_size(variant: Any, where: str, bits: int) -> None:
    for height in range(1, 6):
        for width in range(1, 10):
            for stride in (1, 2):
                out = [-(-n // stride) for n in (height, width)]
                before = [max((o - 1) * stride + 3 - n, 0) // 2 for o, n in
                          zip(out, (height, width), strict=True)]  # fmt: skip
                shape = ConvShape(
                    3, height, width, 3, *out, 3, 3, stride, stride, 1, 1, *before,
                    -9, 4, -128, 127, 0, 9,
                )  # fmt: skip
                check_conv(variant, where, shape, of_bits("depthwise", bits), 10 * height + width)


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("operator", ["conv", "depthwise", "conv_s4", "depthwise_s4"])
def test_micro_left_shifts_saturate_as_defined(variant: Any, where: str, operator: Any) -> None:
    largest = 2**31 - 1
    bias = np.array([0, 5000, -90_000, 2**30, -(2**30), largest, -largest, 2**29 - 40_000])
    multiplier = np.array([1 << 20, largest, largest >> 3, 1 << 10, 1 << 9, 3, 1, 1 << 9])
    affine = (bias.astype(np.int32), multiplier.astype(np.int32))
    for shift in (1, 2, 3, 15, 31):
        # The sums themselves stay below 2^31: only the shift may saturate.
        kept = np.clip(affine[0], -(2**31) + 2_000_000, 2**31 - 2_000_000)
        shape = ConvShape(
            8, 5, 6, 8, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1, 3, -5, -128, 127, shift, 9
        )  # fmt: skip
        check_conv(variant, where, shape, operator, shift, (kept, affine[1]))


@pytest.mark.parametrize(("variant", "where"), MACHINES)
@pytest.mark.parametrize("bits", BITS)
def test_micro_pointwise_of_every_depth(variant: Any, where: str, bits: int) -> None:
    for depth in range(1, 37):
        shape = ConvShape(depth, 1, 9, 5, 1, 9, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, -128, 127, 0, 1)
        check_conv(variant, where, shape, of_bits("conv", bits), depth)


# Compiler, flags of a processor, variants that it compiles.
_COMPILERS = {
    "gcc": ([], ("portable",)),
    "clang": ([], ("portable",)),
    "arm-none-eabi-gcc": (["-mcpu=cortex-m4", "-mthumb"], ("portable", "dsp")),
}


@pytest.mark.parametrize("compiler", _COMPILERS)
def test_micro_kernels_compile_without_warnings(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"not on PATH: {compiler}")
    processor, variants = _COMPILERS[compiler]
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
    for source in sorted({k.source for v in variants for k in KERNELS[v].values()}):
        for standard in ("-std=c99", "-std=c11"):
            path = REPOSITORY / "kernels" / "micro" / source
            command = [compiler, *processor, standard, "-O2", *warnings, "-c", str(path)]
            subprocess.run([*command, "-o", str(tmp_path / "made.o")], check=True)
