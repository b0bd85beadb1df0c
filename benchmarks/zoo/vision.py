"""Plain convolutional networks: ResNet-18 and U-Net."""

from __future__ import annotations

import onnx

from zoo.graph import Graph


def resnet18() -> onnx.ModelProto:
    """Return ResNet-18 for pictures of 224 x 224."""
    g = Graph("resnet18")
    x = g.conv(g.input("image", (1, 3, 224, 224)), (3, 64), 7, stride=2, gain=1.0)
    x = g.op("Relu", g.batch_norm(x, 64))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = g.op("Relu", g.batch_norm(g.conv(x, (channels, width), 3, stride=stride), width))
            y = g.batch_norm(g.conv(y, (width, width), 3), width, scale=0.5)
            if stride != 1:
                x = g.batch_norm(g.conv(x, (channels, width), stride=stride), width)
            x = g.op("Relu", g.op("Add", y, x))
            channels = width
    g.classify(x, channels)
    return g.model()


def unet() -> onnx.ModelProto:
    """Return a U-Net of four levels for pictures of 128 x 128, with transposed convolutions."""
    g = Graph("unet")
    width, levels = 32, 4

    def double(x: str, before: int, after: int, gain: float = 2.0) -> str:
        x = g.op("Relu", g.batch_norm(g.conv(x, (before, after), 3, gain=gain), after))
        return g.op("Relu", g.batch_norm(g.conv(x, (after, after), 3), after))

    x = double(g.input("image", (1, 3, 128, 128)), 3, width, gain=1.0)
    skips = []
    for level in range(levels):
        skips.append(x)
        x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = double(x, width << level, width << (level + 1))
    for level in reversed(range(levels)):
        before, after = width << (level + 1), width << level
        weight = g.weight((before, after, 2, 2), before, 2.0)
        x = g.op("ConvTranspose", x, weight, g.normal((after,)), kernel_shape=[2, 2],
                 strides=[2, 2])  # fmt: skip
        x = double(g.op("Concat", skips[level], x, axis=1), before, after)
    x = g.op("Sigmoid", g.conv(x, (width, 1), bias=True))
    g.output(x, "mask", (1, 1, 128, 128))
    return g.model()
