"""Writes ONNX graphs as exporters do, with weights of a fixed seed that keep activations at scale.

Weights are normal with variance ``gain / fan_in``: a gain of 2 keeps the second moment behind a
ReLU (He), 1 behind anything linear (Xavier). Running statistics and scales of BatchNormalization
are random near those of a trained network, so that nothing folds away and nothing degenerates.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 17  # the last that the scripting exporter of PyTorch writes by default
ML_OPSET = 3


class Graph:
    """A graph under construction. Values are known by their names."""

    def __init__(self, name: str) -> None:
        """Start an empty graph; its name is the seed of its weights."""
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Add an input and return its name."""
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, code, shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int]) -> None:
        """Give the float32 ``value`` as an output called ``name``."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))

    def constant(self, array: Any, dtype: str = "float32") -> str:
        """Add an initializer and return its name."""
        name = f"{self.name}.{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Add an int64 vector, for operators that take a shape or axes."""
        return self.constant(values, "int64")

    def weight(self, shape: Sequence[int], fan_in: int, gain: float = 1.0) -> str:
        """Add a random weight of variance ``gain / fan_in``."""
        return self.normal(shape, (gain / fan_in) ** 0.5)

    def normal(self, shape: Sequence[int], deviation: float = 0.1, mean: float = 0.0) -> str:
        """Add a normal random parameter, by default one like a bias."""
        drawn = self.rng.standard_normal(shape, np.float32)
        return self.constant(drawn * np.float32(deviation) + np.float32(mean))

    def uniform(self, shape: Sequence[int], low: float, high: float) -> str:
        """Add a uniform random parameter."""
        return self.constant(self.rng.uniform(low, high, shape))

    @overload
    def op(self, kind: str, *inputs: str, **attributes: Any) -> str: ...
    @overload
    def op(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]: ...
    def op(self, kind: str, *inputs: str, outputs: int = 0, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or of the given number of outputs."""
        stem = f"{kind}_{len(self._nodes)}"
        names = [f"{stem}_{i}" for i in range(max(outputs, 1))]
        self._nodes.append(helper.make_node(kind, inputs, names, name=stem, **attributes))
        return names if outputs else names[0]

    def conv(
        self,
        x: str,
        channels: tuple[int, int],
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        gain: float = 2.0,
        padding: int | None = None,
    ) -> str:
        """Add a convolution of square kernels, padded to keep the size unless told otherwise."""
        before, after = channels
        pad = (kernel - 1) // 2 if padding is None else padding
        shape = (after, before // groups, kernel, kernel)
        inputs = [x, self.weight(shape, int(np.prod(shape[1:])), gain)]
        return self.op(
            "Conv",
            *inputs,
            *([self.normal((after,))] if bias else []),
            dilations=[1, 1],
            group=groups,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )

    def batch_norm(self, x: str, channels: int, scale: float = 1.0) -> str:
        """Add a BatchNormalization whose scales are about ``scale``."""
        return self.op(
            "BatchNormalization",
            x,
            self.uniform((channels,), 0.8 * scale, 1.2 * scale),
            self.normal((channels,)),
            self.normal((channels,)),
            self.uniform((channels,), 0.8, 1.25),
            epsilon=1e-5,
        )

    def linear(
        self, x: str, sizes: tuple[int, int], *, gain: float = 1.0, bias: bool = True
    ) -> str:
        """Add a dense layer on the last axis, as MatMul and Add."""
        product = self.op("MatMul", x, self.weight(sizes, sizes[0], gain))
        return self.op("Add", self.normal(sizes[1:]), product) if bias else product

    def gemm(self, x: str, sizes: tuple[int, int], *, gain: float = 1.0) -> str:
        """Add a dense layer on rows, as Gemm with the weight's rows being outputs."""
        weight = self.weight(sizes[::-1], sizes[0], gain)
        return self.op("Gemm", x, weight, self.normal(sizes[1:]), alpha=1.0, beta=1.0, transB=1)

    def layer_norm(self, x: str, size: int, form: Literal["op", "decomposed"]) -> str:
        """Add a layer normalisation of the last axis, as one operator or as arithmetic."""
        scale, bias = self.uniform((size,), 0.8, 1.2), self.normal((size,))
        if form == "op":
            return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        square = self.op("Pow", centred, self.constant(2.0))
        variance = self.op("ReduceMean", square, axes=[-1], keepdims=1)
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(1e-12)))
        scaled = self.op("Mul", self.op("Div", centred, deviation), scale)
        return self.op("Add", scaled, bias)

    def gelu(self, x: str) -> str:
        """Add the exact GELU, by Erf."""
        erf = self.op("Erf", self.op("Div", x, self.constant(2.0**0.5)))
        twice = self.op("Mul", x, self.op("Add", erf, self.constant(1.0)))
        return self.op("Mul", twice, self.constant(0.5))

    def classify(self, x: str, channels: int, classes: int = 1000) -> None:
        """Add global pooling and a dense layer, and end the graph."""
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)
        self.output(self.gemm(pooled, (channels, classes)), "logits", (1, classes))

    def model(self) -> onnx.ModelProto:
        """Return the checked model."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._weights
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
