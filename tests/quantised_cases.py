"""Quantised graphs for tests: every operator that integers compute, however quantised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import models
import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_CODES = {
    "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16,
    "int4": TensorProto.INT4,
}  # fmt: skip


@dataclass
class QuantisedGraph:
    """Writes DequantizeLinear, operator, QuantizeLinear; every case has an input and an output.

    Attributes:
        dtype: Of activations.
        weight_dtype: Of weights.
        per_channel: Whether weights have a scale for each output channel.
        symmetric: Whether weights have a zero point of 0.
        seed: Of all that is drawn.
    """

    dtype: str = "int8"
    weight_dtype: str = "int8"
    per_channel: bool = True
    symmetric: bool = True
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        """Start drawing."""
        self.rng = np.random.default_rng(self.seed)

    def name(self, role: str) -> str:
        self.count += 1
        return f"{role}{self.count}"

    def op(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = self.name(op.lower())
        self.nodes.append(models.node(op, inputs, [output], **attributes))
        return output

    def constant(self, array: Array, role: str = "c") -> str:
        name = self.name(role)
        self.weights[name] = array
        return name

    def scale(self, low: float = 0.01, high: float = 0.08) -> np.float32:
        return np.float32(self.rng.uniform(low, high) / (256 if self.dtype == "int16" else 1))

    def zero(self) -> Array:
        low, high = RANGES[self.dtype]
        middle = 0 if self.dtype == "int16" else int(self.rng.integers(-40, 40)) + (low + high) // 2
        return np.array(middle, self.dtype)

    def read(self, shape: Sequence[int], scale: np.float32 | None = None) -> str:
        """Return a dequantised input."""
        name = self.name("x")
        self.inputs.append(models.value(name, shape, self.dtype))
        return self.dequantize(name, scale)

    def dequantize(self, name: str, scale: np.float32 | None = None) -> str:
        given = scale or self.scale()
        return self.op(
            "DequantizeLinear",
            [name, self.constant(np.array(given, np.float32)), self.constant(self.zero())],
        )

    def write(self, value: str, scale: np.float32 | None = None, zero: int | None = None) -> str:
        """Return ``value`` quantised, as an output of the model."""
        given = np.array(scale or self.scale(), np.float32)
        point = self.zero() if zero is None else np.array(zero, self.dtype)
        name = self.op("QuantizeLinear", [value, self.constant(given), self.constant(point)])
        self.outputs.append(models.value(name, None, self.dtype))
        return name

    def weight(self, shape: Sequence[int], axis: int) -> tuple[str, Array]:
        """Return a dequantised weight and its scales."""
        low, high = (-8, 7) if self.weight_dtype == "int4" else RANGES[self.weight_dtype]
        integers = self.rng.integers(low, high, shape, endpoint=True)
        count = shape[axis] if self.per_channel else 1
        scales = self.rng.uniform(0.002, 0.01, count).astype(np.float32)
        zeros = np.zeros(count, np.int64)
        if not self.symmetric:
            zeros = self.rng.integers(-9, 9, count) + (128 if self.weight_dtype == "uint8" else 0)
        if not self.per_channel:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        code = _CODES[self.weight_dtype]
        names = [self.name("w"), self.name("wz")]
        for name, values in zip(names, (integers, zeros), strict=True):
            flat = np.asarray(values).reshape(-1).tolist()
            self.initializers.append(helper.make_tensor(name, code, np.shape(values), flat))
        attributes = {"axis": axis} if self.per_channel else {}
        dequantized = self.op(
            "DequantizeLinear", [names[0], self.constant(scales), names[1]], **attributes
        )
        return dequantized, scales

    def bias(self, count: int, scales: Array) -> str:
        """Return a dequantised bias of 32 bits."""
        integers = self.rng.integers(-3000, 3000, count).astype(np.int32)
        wide = np.broadcast_to(np.asarray(scales, np.float32) * np.float32(0.03), (count,))
        return self.op(
            "DequantizeLinear",
            [
                self.constant(integers),
                self.constant(np.ascontiguousarray(wide)),
                self.constant(np.zeros(count, np.int32)),
            ],
            axis=0,
        )

    def model(self, opset: int = 21) -> onnx.ModelProto:
        made = models.model(self.nodes, self.inputs, self.outputs, self.weights, opset=opset)
        made.graph.initializer.extend(self.initializers)
        made.ir_version = 10
        return onnx.shape_inference.infer_shapes(made)


def _conv(g: QuantisedGraph, x: Sequence[int], w: Sequence[int], **attributes: Any) -> None:
    weight, scales = g.weight(w, 0)
    y = g.op("Conv", [g.read(x), weight, g.bias(w[0], scales)], **attributes)
    g.write(g.op("Relu", [y]) if g.count % 2 else y, np.float32(g.scale() * 4))


def convolutions(g: QuantisedGraph) -> None:
    """Windows of every kind: plain, strided, dilated, padded, pointwise, depthwise, in groups."""
    _conv(g, (1, 3, 9, 7), (8, 3, 3, 3), pads=[1, 1, 1, 1])
    _conv(g, (1, 5, 8, 8), (6, 5, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1])
    _conv(g, (1, 8, 5, 6), (16, 8, 1, 1))
    _conv(g, (1, 16, 7, 5), (4, 16, 1, 1), strides=[2, 2])
    _conv(g, (1, 6, 9, 9), (6, 1, 3, 3), pads=[1, 1, 1, 1], group=6)
    _conv(g, (1, 8, 9, 8), (8, 1, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], group=8)
    _conv(g, (1, 4, 11, 10), (8, 4, 2, 5), auto_pad="SAME_UPPER")
    _conv(g, (1, 4, 11, 10), (8, 4, 2, 5), dilations=[2, 1], pads=[1, 2, 1, 2])
    _conv(g, (1, 8, 6, 6), (8, 4, 3, 3), pads=[1, 1, 1, 1], group=2)
    _conv(g, (2, 3, 6, 6), (4, 3, 3, 3))
    _conv(g, (1, 4, 20), (6, 4, 5), pads=[2, 2])


def products(g: QuantisedGraph) -> None:
    """Dense layers with their forms of a bias, and products of two activations."""
    weight, scales = g.weight((19, 12), 1)
    y = g.op("MatMul", [g.read((1, 19)), weight])
    g.write(g.op("Add", [y, g.bias(12, scales)]), np.float32(g.scale() * 3))
    weight, scales = g.weight((7, 33), 0)
    y = g.op("Gemm", [g.read((3, 33)), weight, g.bias(7, scales)], transB=1)
    g.write(g.op("Clip", [y, g.constant(np.float32(-1.0)), g.constant(np.float32(6.0))]))
    weight, _ = g.weight((8, 8), 1)
    g.write(g.op("MatMul", [g.read((2, 5, 8)), weight]))
    weight, _ = g.weight((6, 10), 0)
    g.write(g.op("MatMul", [g.read((1, 10)), g.op("Transpose", [weight], perm=[1, 0])]))
    g.write(g.op("MatMul", [g.read((2, 4, 6)), g.read((2, 6, 3))]), np.float32(g.scale() * 4))


def arithmetic(g: QuantisedGraph) -> None:
    """Sums, differences and products of activations, also broadcast."""
    wide = np.float32(g.scale() * 2)
    g.write(g.op("Add", [g.read((1, 4, 5, 5)), g.read((1, 4, 5, 5))]), wide)
    g.write(g.op("Relu", [g.op("Add", [g.read((1, 4, 5, 5)), g.read((1, 4, 1, 1))])]), wide)
    g.write(g.op("Sub", [g.read((3, 7)), g.read((3, 7))]), wide)
    g.write(g.op("Mul", [g.read((3, 7)), g.read((3, 7))]))
    x = g.read((2, 9))
    g.write(g.op("Add", [x, x]), wide)


def pools(g: QuantisedGraph) -> None:
    """Averages, means and maxima."""
    g.write(g.op("GlobalAveragePool", [g.read((1, 6, 5, 4))]))
    g.write(g.op("AveragePool", [g.read((1, 3, 8, 8))], kernel_shape=[2, 2], strides=[2, 2]))
    g.write(g.op("AveragePool", [g.read((1, 3, 6, 6))], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    g.write(g.op("AveragePool", [g.read((1, 3, 4, 6))], kernel_shape=[4, 6]))
    axes = g.constant(np.array([2, 3], np.int64))
    g.write(g.op("ReduceMean", [g.read((1, 5, 4, 4)), axes], keepdims=0))
    g.write(g.op("ReduceMean", [g.read((2, 6, 3)), g.constant(np.array([1], np.int64))]))
    g.write(g.op("MaxPool", [g.read((1, 4, 8, 8))], kernel_shape=[2, 2], strides=[2, 2]))


def moves(g: QuantisedGraph) -> None:
    """What only moves elements, within one quantisation and into another."""
    g.write(g.op("Transpose", [g.read((2, 3, 4))], perm=[2, 0, 1]))
    g.write(g.op("Reshape", [g.read((2, 6)), g.constant(np.array([3, 4], np.int64))]))
    g.write(g.op("Concat", [g.read((1, 2, 3, 3)), g.read((1, 4, 3, 3))], axis=1))
    limits = [g.constant(np.array([v], np.int64)) for v in (1, 3, 1)]
    g.write(g.op("Slice", [g.read((2, 4, 3)), *limits]))
    x = g.read((2, 3, 3))
    g.write(g.op("Pad", [x, g.constant(np.array([0, 1, 1, 0, 1, 1], np.int64))]))
    g.write(g.read((4, 5)))
    _resize(g, (1, 2, 5, 4), scales=(1, 1, 2, 2), mode="nearest")


def resizes(g: QuantisedGraph) -> None:
    """Resizing by weighted sums, up and down."""
    _resize(g, (1, 3, 5, 4), scales=(1, 1, 2, 2), mode="linear")
    _resize(g, (1, 2, 6, 6), sizes=(1, 2, 9, 4), mode="linear",
            coordinate_transformation_mode="align_corners")  # fmt: skip
    _resize(g, (1, 2, 6, 6), sizes=(1, 2, 3, 6), mode="linear",
            coordinate_transformation_mode="asymmetric")  # fmt: skip


def _resize(g: QuantisedGraph, x: Sequence[int], scales: Any = None, sizes: Any = None,
            **attributes: Any) -> None:  # fmt: skip
    given = np.array(scales, np.float32) if scales else np.array(sizes, np.int64)
    operands = ["", g.constant(given)] if scales else ["", "", g.constant(given)]
    g.write(g.op("Resize", [g.read(x), *operands], **attributes))


def functions(g: QuantisedGraph) -> None:
    """Functions of single elements, and softmax."""
    wide = g.dtype == "int16"
    for op in ("Sigmoid", "Tanh", "Elu", "LeakyRelu", "Softplus"):
        scale = np.float32(1e-4 if op in ("Sigmoid", "Tanh") else 4e-4) if wide else None
        g.write(g.op(op, [g.read((2, 17), scale)]), np.float32(0.0005 if wide else 0.02))
    x = g.read((3, 5), np.float32(1e-4) if wide else None)
    g.write(g.op("Mul", [x, g.op("Sigmoid", [x])]))
    if wide:
        g.write(g.op("Softmax", [g.read((2, 10))], axis=-1), np.float32(1 / 32768), 0)
        return
    for op in ("Abs", "Exp", "HardSwish"):  # bend too much for a table of 16 bits
        g.write(g.op(op, [g.read((2, 17))]), np.float32(0.02))
    low = 0 if g.dtype == "uint8" else -128
    g.write(g.op("Softmax", [g.read((2, 10))], axis=-1), np.float32(1 / 256), low)


Case = Callable[[QuantisedGraph], None]
CASES: dict[str, Case] = {
    "convolutions": convolutions,
    "products": products,
    "arithmetic": arithmetic,
    "pools": pools,
    "moves": moves,
    "functions": functions,
    "resizes": resizes,
}
# Of every form: activations, weights, scale for each channel, zero points of weights are 0.
FORMS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8, one scale": {"per_channel": False},
    "int8, asymmetric weights": {"symmetric": False},
    "uint8, int8 weights": {"dtype": "uint8"},
    "uint8, uint8 weights": {"dtype": "uint8", "weight_dtype": "uint8", "symmetric": False},
    "int8, int4 weights": {"weight_dtype": "int4"},
    "int16, int8 weights": {"dtype": "int16"},
}


def quantised_model(cases: Sequence[str], form: str, seed: int = 0) -> onnx.ModelProto:
    """Return one model with all of ``cases`` side by side."""
    graph = QuantisedGraph(**FORMS[form], seed=seed)
    for case in cases:
        CASES[case](graph)
    return graph.model()
