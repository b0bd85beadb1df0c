"""ConvNeXt: large depthwise convolutions, with everything else on the last axis."""

from __future__ import annotations

import onnx

from zoo.graph import Graph


def convnext_tiny() -> onnx.ModelProto:
    """Return a network like ConvNeXt-T for pictures of 224 x 224."""
    g = Graph("convnext_tiny")

    def to_last(x: str) -> str:
        return g.op("Transpose", x, perm=[0, 2, 3, 1])

    def to_first(x: str) -> str:
        return g.op("Transpose", x, perm=[0, 3, 1, 2])

    def normalised(x: str, size: int) -> str:
        return to_first(g.layer_norm(to_last(x), size, "op"))

    x = g.input("image", (1, 3, 224, 224))
    before = 3
    for stage, (size, blocks) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        kernel = 2 if stage else 4
        if stage:
            x = normalised(x, before)
        x = g.conv(x, (before, size), kernel, stride=kernel, padding=0, bias=True, gain=1.0)
        if not stage:
            x = normalised(x, size)
        for _ in range(blocks):
            y = g.conv(x, (size, size), 7, groups=size, bias=True, gain=1.0)
            y = g.layer_norm(to_last(y), size, "op")
            y = g.gelu(g.linear(y, (size, 4 * size)))
            y = g.linear(y, (4 * size, size), gain=2.0)
            y = g.op("Mul", g.uniform((size,), 0.3, 0.6), y)
            x = g.op("Add", x, to_first(y))
        before = size
    pooled = to_last(g.op("GlobalAveragePool", x))
    pooled = g.op("Flatten", g.layer_norm(pooled, before, "op"), axis=1)
    g.output(g.gemm(pooled, (before, 1000)), "logits", (1, 1000))
    return g.model()
