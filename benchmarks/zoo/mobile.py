"""Networks of inverted residuals: MobileNetV2, MobileNetV3-large and one like EfficientNet-B0."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from zoo.graph import Graph

Activation = Callable[[Graph, str], str]


def relu(g: Graph, x: str) -> str:
    """Add ``max(x, 0)``."""
    return g.op("Relu", x)


def relu6(g: Graph, x: str) -> str:
    """Add ``min(max(x, 0), 6)`` as it is exported."""
    return g.op("Clip", x, g.constant(0.0), g.constant(6.0))


def hard_swish(g: Graph, x: str) -> str:
    """Add HardSwish."""
    return g.op("HardSwish", x)


def silu(g: Graph, x: str) -> str:
    """Add ``x * sigmoid(x)``."""
    return g.op("Mul", x, g.op("Sigmoid", x))


def _unit(
    g: Graph,
    x: str,
    channels: tuple[int, int],
    kernel: int,
    act: Activation,
    *,
    stride: int = 1,
    groups: int = 1,
    gain: float = 2.0,
) -> str:
    """Add a convolution, its normalisation and activation."""
    x = g.conv(x, channels, kernel, stride=stride, groups=groups, gain=gain)
    return act(g, g.batch_norm(x, channels[1]))


def _squeeze(g: Graph, x: str, channels: int, inner: int, act: Activation, gate: Activation) -> str:
    """Add squeeze-and-excitation."""
    mean = g.op("GlobalAveragePool", x)
    inside = act(g, g.conv(mean, (channels, inner), bias=True))
    return g.op("Mul", x, gate(g, g.conv(inside, (inner, channels), bias=True)))


def _residual(
    g: Graph,
    x: str,
    sizes: tuple[int, int, int],
    kernel: int,
    stride: int,
    act: Activation,
    squeeze: Callable[[str], str] | None = None,
) -> str:
    """Add an inverted residual of ``sizes``: channels before, inside and after."""
    before, inner, after = sizes
    y = x
    if inner != before:  # what comes in is linear
        y = _unit(g, y, (before, inner), 1, act, gain=1.0)
    y = _unit(g, y, (inner, inner), kernel, act, stride=stride, groups=inner)
    if squeeze is not None:
        y = squeeze(y)
    skip = stride == 1 and before == after
    gain = 8.0 if squeeze else 2.0  # gates are about one half
    y = g.batch_norm(g.conv(y, (inner, after), gain=gain), after, scale=0.5 if skip else 1.0)
    return g.op("Add", x, y) if skip else y


def mobilenet_v2() -> onnx.ModelProto:
    """Return MobileNetV2 for pictures of 224 x 224."""
    g = Graph("mobilenet_v2")
    x = _unit(g, g.input("image", (1, 3, 224, 224)), (3, 32), 3, relu6, stride=2, gain=1.0)
    channels = 32
    for expand, width, repeats, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(repeats):
            sizes = channels, channels * expand, width
            x = _residual(g, x, sizes, 3, 1 if i else first, relu6)
            channels = width
    x = _unit(g, x, (channels, 1280), 1, relu6, gain=1.0)
    g.classify(x, 1280)
    return g.model()


def mobilenet_v3() -> onnx.ModelProto:
    """Return MobileNetV3-large for pictures of 224 x 224."""
    g = Graph("mobilenet_v3_large")

    def gate(g: Graph, x: str) -> str:
        return g.op("HardSigmoid", x, alpha=1 / 6)

    x = _unit(g, g.input("image", (1, 3, 224, 224)), (3, 16), 3, hard_swish, stride=2, gain=1.0)
    channels = 16
    for kernel, inner, width, squeezed, act, stride in (
        (3, 16, 16, 0, relu, 1), (3, 64, 24, 0, relu, 2), (3, 72, 24, 0, relu, 1),
        (5, 72, 40, 24, relu, 2), (5, 120, 40, 32, relu, 1), (5, 120, 40, 32, relu, 1),
        (3, 240, 80, 0, hard_swish, 2), (3, 200, 80, 0, hard_swish, 1),
        (3, 184, 80, 0, hard_swish, 1), (3, 184, 80, 0, hard_swish, 1),
        (3, 480, 112, 120, hard_swish, 1), (3, 672, 112, 168, hard_swish, 1),
        (5, 672, 160, 168, hard_swish, 2), (5, 960, 160, 240, hard_swish, 1),
        (5, 960, 160, 240, hard_swish, 1),
    ):  # fmt: skip

        def squeeze(y: str, inner: int = inner, squeezed: int = squeezed) -> str:
            return _squeeze(g, y, inner, squeezed, relu, gate)

        sizes = channels, inner, width
        x = _residual(g, x, sizes, kernel, stride, act, squeeze if squeezed else None)
        channels = width
    x = _unit(g, x, (channels, 960), 1, hard_swish, gain=1.0)
    pooled = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    hidden = hard_swish(g, g.gemm(pooled, (960, 1280), gain=2.0))
    g.output(g.gemm(hidden, (1280, 1000)), "logits", (1, 1000))
    return g.model()


def efficientnet_b0() -> onnx.ModelProto:
    """Return a network like EfficientNet-B0 for pictures of 224 x 224."""
    g = Graph("efficientnet_b0")

    def gate(g: Graph, x: str) -> str:
        return g.op("Sigmoid", x)

    x = _unit(g, g.input("image", (1, 3, 224, 224)), (3, 32), 3, silu, stride=2, gain=1.0)
    channels = 32
    for expand, width, repeats, first, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for i in range(repeats):
            inner = channels * expand

            def squeeze(y: str, inner: int = inner, small: int = channels // 4) -> str:
                return _squeeze(g, y, inner, small, silu, gate)

            sizes = channels, inner, width
            x = _residual(g, x, sizes, kernel, 1 if i else first, silu, squeeze)
            channels = width
    x = _unit(g, x, (channels, 1280), 1, silu, gain=1.0)
    g.classify(x, 1280)
    return g.model()
