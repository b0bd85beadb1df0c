"""Integers in words and blocks compute what the definition says, wherever a graph enters or leaves.

The bundle's outputs are those of the NumPy model; every target must give their bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from quantised_cases import QuantisedGraph
from support import REPOSITORY, VECTOR_TARGETS

import mlopsc
from mlopsc.host import cpu_flags
from mlopsc.schema.package import Package

DOT_TARGETS = [
    *VECTOR_TARGETS,
    pytest.param(
        "x86-64-v3-vnni",
        marks=pytest.mark.skipif("avx_vnni" not in cpu_flags(), reason="needs AVX-VNNI"),
    ),
    pytest.param(
        "x86-64-v4-vnni",
        marks=pytest.mark.skipif("avx512_vnni" not in cpu_flags(), reason="needs AVX-512 VNNI"),
    ),
    pytest.param("aarch64-dotprod", marks=pytest.mark.tool("qemu-aarch64")),
]
QUICK = ("host", "aarch64-generic")


class Net(QuantisedGraph):
    """A quantised network: every operator reads dequantised tensors, and is quantised again."""

    def next(self, op: str, *inputs: str, scale: float = 0.05, **attributes: Any) -> str:
        """Return the quantised and dequantised result of an operator."""
        return self.again(self.op(op, list(inputs), **attributes), scale)

    def again(self, value: str, scale: float = 0.05) -> str:
        given = [self.constant(np.array(scale, np.float32)), self.constant(self.zero())]
        return self.op("DequantizeLinear", [self.op("QuantizeLinear", [value, *given]), *given])

    def move(self, op: str, value: str, *rest: str, **attributes: Any) -> str:
        """Return elements of a dequantised tensor in other places, moved as integers."""
        (integers, *given), *_ = (n.input for n in self.nodes if value in n.output)
        return self.op("DequantizeLinear", [self.op(op, [integers, *rest], **attributes), *given])

    def conv(self, x: str, depth: int, features: int, size: int = 3, **attributes: Any) -> str:
        """Return a convolution with a bias, padded so that a step of 1 keeps the size."""
        scale = attributes.pop("scale", 0.4)
        weight, scales = self.weight((features, depth, size, size), 0)
        pads = attributes.pop("pads", [size // 2] * 4)
        y = self.op("Conv", [x, weight, self.bias(features, scales)], pads=pads, **attributes)
        return self.again(self.op("Relu", [y]) if features % 32 else y, scale)


def network(dtype: str = "int8", *, symmetric: bool = True) -> Any:
    """A stem on channels that lie last, then everything that has a form, and what has none."""
    net = Net(dtype=dtype, symmetric=symmetric, seed=7)
    image = net.move("Transpose", net.read((1, 19, 17, 3)), perm=[0, 3, 1, 2])
    stem = net.conv(image, 3, 16, strides=[2, 2], scale=0.2)
    deep = net.conv(stem, 1, 16, group=16, scale=0.1)
    far = net.conv(stem, 1, 16, 5, group=16, dilations=[1, 2], pads=[2, 4, 2, 4])
    wide = net.conv(deep, 16, 32, 1, scale=0.3)
    skip = net.conv(far, 16, 32, 3, dilations=[2, 2], pads=[2, 2, 2, 2])
    joined = net.next("Relu", net.op("Add", [wide, skip]), scale=0.3)
    saturated = net.conv(joined, 32, 24, 1, scale=0.004)  # a factor above one half
    curved = net.next("Sigmoid", joined, scale=1 / 256)
    pooled = net.next("MaxPool", joined, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    halved = net.conv(curved, 1, 32, 3, strides=[2, 2], group=32, scale=0.02)
    both = net.next("Concat", pooled, halved, axis=1)
    grouped = net.conv(both, 32, 24, 3, group=2)  # stays plain
    odd = net.conv(both, 64, 7, 1)
    means = net.next("GlobalAveragePool", both)
    mean = net.move("Reshape", means, net.constant(np.array([1, -1])))
    weight, scales = net.weight((64, 39), 1)
    dense = net.again(net.op("Add", [net.op("MatMul", [mean, weight]), net.bias(39, scales)]), 0.1)
    weight, scales = net.weight((36, 10), 1)
    rows = net.op("MatMul", [net.read((2, 3, 36)), weight])
    few = net.again(net.op("Add", [rows, net.bias(10, scales)]), 0.1)
    for value in (saturated, grouped, odd, dense, few, joined):
        net.write(value, np.float32(0.07))
    return net.model()


def build(folder: Path, target: str, model: Any) -> Package:
    models.save(model, folder / "net.onnx")
    bundle = folder / "net.mlb"
    made = mlopsc.import_model(folder / "net.onnx", bundle)
    assert made.manifest.vectors.arithmetic == "integer"
    package = mlopsc.build(bundle, target, folder, generator="llvm")[target]
    report = mlopsc.conform(folder / target, bundle=bundle)
    assert report.verdict == "pass", report.outputs
    assert all(o.tolerance == 0.0 for o in report.outputs)
    return package


def _marked(target: Any) -> Any:
    name = target if isinstance(target, str) else target.values[0]
    marks = [] if isinstance(target, str) else list(target.marks)
    slow = [] if name in QUICK else [pytest.mark.slow]
    return pytest.param(name, marks=[*marks, *slow], id=name)


@pytest.mark.parametrize("target", [_marked(t) for t in DOT_TARGETS])
def test_integer_forms_give_the_same_bits(tmp_path: Path, target: str) -> None:
    package = build(tmp_path, target, network())
    convolutions = [k for k in package.kernels if "conv" in k.symbol or "depthwise" in k.symbol]
    assert sum("lanes on axis" in k.schedule for k in convolutions) >= 8
    assert any("fused_conv" in k.symbol and "_add" in k.symbol for k in package.kernels)


@pytest.mark.parametrize("form", ["uint8", pytest.param("asymmetric", marks=pytest.mark.slow)])
def test_integer_forms_of_other_quantisations(tmp_path: Path, form: str) -> None:
    dtype = "uint8" if form == "uint8" else "int8"
    build(tmp_path, "host", network(dtype, symmetric=form != "asymmetric"))


def test_every_target_with_words_is_tried() -> None:
    """A new instruction in a target file needs a target here."""
    import tomllib

    files = (REPOSITORY / "targets").glob("*/*.toml")
    found = {tomllib.loads(p.read_text()).get("hardware", {}).get("dot"): p.stem for p in files}
    names = {t if isinstance(t, str) else str(t.values[0]) for t in DOT_TARGETS}
    assert {found[kind] for kind in found if kind} <= names
