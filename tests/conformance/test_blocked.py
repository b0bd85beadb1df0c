"""Channel-blocked layouts compute what plain ones do, wherever a graph enters or leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from support import VECTOR_TARGETS, build_conforming


class Net:
    """Nodes of one model with their weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self.count = 0

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.count += 1
        name = f"{op.lower()}{self.count}"
        self.nodes.append(models.node(op, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = models.random(*shape, seed=len(self.weights)) * np.float32(scale)
        return name

    def conv(self, x: str, depth: int, features: int, size: int = 3, **attributes: Any) -> str:
        pad = attributes.pop("pads", [size // 2] * 4)
        weight = self.weight(features, depth, size, size)
        return self.add("Conv", x, weight, self.weight(features), pads=pad, **attributes)


def network() -> Any:
    """A stem, depthwise, strided, dilated and grouped convolutions, pools, and a squeeze gate."""
    net = Net()
    stem = net.add("Relu", net.conv("image", 3, 16, strides=[2, 2]))
    deep = net.add("Clip", net.conv(stem, 1, 16, group=16), "zero", "six")
    wide = net.conv(deep, 16, 32, 1)
    skip = net.conv(stem, 16, 32, 3, dilations=[2, 2], pads=[2, 2, 2, 2])
    joined = net.add("Relu", net.add("Add", wide, skip))
    gate = net.add("Sigmoid", net.conv(net.add("GlobalAveragePool", joined), 32, 32, 1))
    gated = net.add("Mul", joined, gate)
    scaled = net.add("Mul", gated, net.weight(32, 1, 1))
    pooled = net.add("MaxPool", scaled, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    mean = net.add("AveragePool", scaled, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    both = net.add("Concat", pooled, mean, axis=1)
    odd = net.conv(both, 64, 7, 1)  # too few channels for a block: leaves the layout
    grouped = net.conv(both, 32, 24, 3, group=2)  # stays plain
    eight = net.add("LeakyRelu", net.conv(grouped, 24, 8, 3))  # half a block of 16
    net.nodes.append(models.node("Identity", [eight], ["y"]))
    net.nodes.append(models.node("Identity", [odd], ["z"]))
    net.nodes.append(models.node("Identity", [joined], ["middle"]))
    net.weights |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    outputs = [
        models.value("y", [1, 8, 5, 5]),
        models.value("z", [1, 7, 5, 5]),
        models.value("middle", [1, 32, 10, 10]),
    ]
    return models.model(net.nodes, [models.value("image", [1, 3, 19, 19])], outputs, net.weights)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_a_network_conforms(tmp_path: Path, target: str) -> None:
    package = build_conforming(network(), target, tmp_path)
    assert any("lanes on axis" in k.schedule for k in package.kernels)
