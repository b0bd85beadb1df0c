"""Instructions of the kernels for microcontrollers, layer by layer of four tiny models.

Usage: ``python benchmarks/micro_kernels.py [--variant dsp] [--target cortex-m4f] [--bits 4]
[--json FILE]``.
Counts are exact and the same on every machine; the layers are those of the MLPerf Tiny models, with
random numbers in them. Every result is compared with the portable variant run natively.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from micro_board import BoardKernels
from micro_machine import Arguments, EmulatedKernels, NativeKernels

from mlopsc.cli.render import echo_table
from mlopsc.lower.micro import KERNELS, NARROW, AddShape, ConvShape, DenseShape, MeanShape, Operator
from mlopsc.targets import load_target


@dataclass(frozen=True)
class Layer:
    """One operator, ``times`` alike in a model."""

    operator: Operator
    shape: Any
    times: int = 1


def conv(
    size: tuple[int, int, int], out: int, kernel: tuple[int, int], stride: int, *, depthwise: bool
) -> ConvShape:
    """Return a convolution with ``SAME`` padding of an input [channels, height, width]."""
    height, width = (-(-n // stride) for n in size[1:])
    pads = [
        max((o - 1) * stride + k - n, 0) // 2
        for o, k, n in zip((height, width), kernel, size[1:], strict=True)
    ]
    taps = kernel[0] * kernel[1]
    return ConvShape(
        size[0], size[1], size[2], size[0] if depthwise else out, height, width,
        kernel[0], kernel[1], stride, stride, 1, 1, *pads, -128, -128, -128, 127, 0, taps,
    )  # fmt: skip


def full(channels: int, size: int, out: int, kernel: int = 3, stride: int = 1) -> Layer:
    """Return a convolution of a square image."""
    shape = conv((channels, size, size), out, (kernel, kernel), stride, depthwise=False)
    return Layer("conv", shape)


def depthwise(channels: int, height: int, width: int, stride: int = 1, times: int = 1) -> Layer:
    """Return a depthwise convolution 3x3."""
    shape = conv((channels, height, width), 0, (3, 3), stride, depthwise=True)
    return Layer("depthwise", shape, times)


def pointwise(channels: int, height: int, width: int, out: int, times: int = 1) -> Layer:
    """Return a convolution 1x1."""
    shape = conv((channels, height, width), out, (1, 1), 1, depthwise=False)
    return Layer("conv", shape, times)


def dense(depth: int, width: int, times: int = 1) -> Layer:
    """Return a product of one row."""
    return Layer("dense", DenseShape(1, depth, width, 0, -128, 127, 0), times)


def add(elements: int) -> Layer:
    """Return an addition of two tensors."""
    return Layer("add", AddShape(elements, 1 << 20, 1 << 20, 0, 21, -128, 127))


def mean(rows: int, count: int) -> Layer:
    """Return an average of rows."""
    return Layer("mean", MeanShape(rows, count, -128, -128, -128, 127, (1 << 31) // count - 1, 0))


def _mobile_layers() -> list[Layer]:
    first = conv((3, 96, 96), 8, (3, 3), 2, depthwise=False)
    layers = [Layer("conv", first)]
    steps = [(8, 48, 16, 1), (16, 48, 32, 2), (32, 24, 32, 1), (32, 24, 64, 2), (64, 12, 64, 1)]
    steps += [(64, 12, 128, 2), *[(128, 6, 128, 1)] * 5, (128, 6, 256, 2), (256, 3, 256, 1)]
    for channels, size, out, stride in steps:
        small = size // stride
        layers.append(depthwise(channels, size, size, stride))
        layers.append(pointwise(channels, small, small, out))
    return [*layers, mean(256, 9), dense(256, 2)]


MODELS: dict[str, list[Layer]] = {
    "autoencoder": [
        dense(640, 128),
        dense(128, 128, 3),
        dense(128, 8),
        dense(8, 128),
        dense(128, 128, 3),
        dense(128, 640),
    ],
    "keyword spotting": [
        Layer("conv", conv((1, 49, 10), 64, (10, 4), 2, depthwise=False)),
        depthwise(64, 25, 5, times=4),
        pointwise(64, 25, 5, 64, 4),
        mean(64, 125),
        dense(64, 12),
    ],
    "ResNet-8": [
        full(3, 32, 16),
        full(16, 32, 16),
        full(16, 32, 16),
        add(16384),
        full(16, 32, 32, 3, 2),
        full(32, 16, 32),
        full(16, 32, 32, 1, 2),
        add(8192),
        full(32, 16, 64, 3, 2),
        full(64, 8, 64),
        full(32, 16, 64, 1, 2),
        add(4096),
        mean(64, 64),
        dense(64, 10),
    ],
    "visual wake words": _mobile_layers(),
}


def multiply_adds(layer: Layer) -> int:
    """Return the multiplications that count as work."""
    s = layer.shape
    if layer.operator == "dense":
        return int(s.columns_in * s.columns_out)
    if layer.operator not in ("conv", "depthwise"):
        return 0
    depth = 1 if layer.operator == "depthwise" else s.channels_in
    return int(s.channels_out * depth * s.all_taps * s.height_out * s.width_out)


def function(layer: Layer, bits: int) -> Operator:
    """Return the function that takes the layer's weights in so many bits."""
    return NARROW.get(layer.operator, layer.operator) if bits == 4 else layer.operator


def arguments(layer: Layer, variant: Any, bits: int) -> Arguments:
    """Return random numbers for a layer, the same for every variant."""
    rng, s = np.random.default_rng(1), layer.shape
    kernel = KERNELS[variant][function(layer, bits)]
    if layer.operator == "add":
        a, b = rng.integers(-128, 128, (2, s.elements), np.int8)
        return Arguments(a, s, s.elements, b)
    if layer.operator == "mean":
        return Arguments(rng.integers(-128, 128, (s.rows, s.count), np.int8), s, s.rows)
    if layer.operator == "dense":
        x, w, size = (s.columns_in,), (s.columns_out, s.columns_in), s.columns_out
        outputs = s.columns_out
    else:
        depth = 1 if layer.operator == "depthwise" else s.channels_in
        x = (s.channels_in, s.height_in, s.width_in)
        w = (s.channels_out, depth, s.kernel_height, s.kernel_width)
        size, outputs = s.channels_out * s.height_out * s.width_out, s.channels_out
    limit = (1 << (bits - 1)) - 1
    return Arguments(
        rng.integers(-128, 128, x, np.int8),
        s,
        size,
        kernel.pack(rng.integers(-limit, limit + 1, w, np.int8)),
        rng.integers(-2000, 2000, outputs, np.int32),
        rng.integers(1 << 22, 1 << 24, outputs, np.int32),
        scratch_bytes=kernel.scratch_bytes(s),
        in_place=kernel.in_place(s),
    )


@click.command()
@click.option("--variant", default="dsp", show_default=True, type=click.Choice(list(KERNELS)))
@click.option("--target", default="cortex-m4f", show_default=True)
@click.option(
    "--bits", default="8", show_default=True, type=click.Choice(["8", "4"]), help="Of weights."
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(variant: Any, target: str, bits: str, output: Path | None) -> None:
    """Print a table of each model's layers."""
    emulates = "unicorn" in load_target(target).run.runners
    machine = EmulatedKernels(variant, target) if emulates else BoardKernels(variant, target)
    reference = NativeKernels("portable")
    results = {}
    for model, layers in MODELS.items():
        rows, work, spent = [], 0, 0
        for layer in layers:
            operator, given = function(layer, int(bits)), arguments(layer, variant, int(bits))
            found = machine.call(operator, given, counter=True)
            expected = reference.call(operator, arguments(layer, "portable", int(bits)))
            np.testing.assert_array_equal(found, expected)
            products, count = multiply_adds(layer), machine.instructions
            work += layer.times * products
            spent += layer.times * count
            rows.append([
                layer.operator, _describe(layer), str(layer.times), f"{products:,}", f"{count:,}",
                f"{count / products:.3f}" if products else "", f"{given.scratch_bytes:,}",
            ])  # fmt: skip
        rows.append(["all", "", "", f"{work:,}", f"{spent:,}", f"{spent / work:.3f}", ""])
        results[model] = {"products": work, "instructions": spent, "ratio": spent / work}
        heads = ["operator", "shape", "times", "products", "instructions", "each", "scratch"]
        echo_table(f"{model}: {variant} on {target}", heads, rows)
    sizes = {k: v for k, v in machine.code_bytes().items() if not k.startswith("call_")}
    echo_table("Code", ["function", "bytes"], [[k, str(v)] for k, v in sorted(sizes.items())])
    if output is not None:
        document = {"models": results, "code_bytes": sizes}
        output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _describe(layer: Layer) -> str:
    s = layer.shape
    if isinstance(s, ConvShape):
        return (
            f"{s.channels_in}x{s.height_in}x{s.width_in} -> {s.channels_out}, "
            f"{s.kernel_height}x{s.kernel_width} / {s.stride_height}"
        )
    if isinstance(s, DenseShape):
        return f"{s.columns_in} -> {s.columns_out}"
    return f"{s.elements}" if isinstance(s, AddShape) else f"{s.rows}x{s.count}"


if __name__ == "__main__":
    main()
