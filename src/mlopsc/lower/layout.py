"""Carries channel-blocked layouts through a graph.

A tensor ``[N, C, ...]`` becomes ``[N, C/B, ..., B]``: the ``B`` channels of a block lie beside each
other, as many as a vector register holds, so that convolutions load and store whole registers
without shuffles. Convolutions start such tensors; what works on any layout continues them; where
something else needs the plain layout, one conversion is made. Weights are packed here, once.

Works on the joined graph in normal form. Operators that exist only in this form are in the domain
``mlopsc.blocked`` (``ops/blocked.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    BINARY,
    DOMAIN,
    MIN_LANES,
    UNARY,
    Array,
    Carrier,
    describe,
    groups_of,
    shape_of,
)
from mlopsc.lower.winograd import choose_results, transform_weights
from mlopsc.schema.target import Accuracy

# What gives finite numbers for finite ones: allowed where blocks hold channels that do not exist.
_KEEP_FINITE: Final = frozenset(
    {
        "Abs", "Add", "Ceil", "Clip", "Elu", "Erf", "Floor", "HardSigmoid", "HardSwish",
        "LeakyRelu", "Max", "Min", "Mul", "Neg", "PRelu", "Relu", "Round", "Selu", "Sigmoid",
        "Softplus", "Sub", "Tanh",
    }
)  # fmt: skip
_POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})


def use_blocked_layout(model: ir.Model, lanes: int, *, accuracy: Accuracy) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        lanes: Elements of float32 in a vector register.
        accuracy: ``strict`` keeps every convolution the sum that defines it.
    """
    if lanes >= MIN_LANES:
        _Blocker(model.graph, lanes, accuracy).run()
        model.opset_imports[DOMAIN] = 1
    return model


class _Blocker(Carrier):
    def __init__(self, graph: ir.Graph, lanes: int, accuracy: Accuracy) -> None:
        super().__init__(graph, lanes)
        self.accuracy = accuracy

    def plain(self, value: ir.Value, form: ir.Value) -> ir.Node:
        node = ir.Node(DOMAIN, "Unblock", [form])
        describe(node.outputs[0], str(value.name), value, shape_of(value))
        return node

    def convert(self, node: ir.Node) -> bool:
        if node.op_type == "Conv":
            return self._conv(node)
        if node.op_type in _POOLS:
            return self._pool(node)
        if node.op_type in UNARY or node.op_type in BINARY:
            return self._elementwise(node)
        if node.op_type == "Concat":
            return self._concat(node)
        if node.op_type == "DepthToSpace":
            return self._interleave(node)
        if node.op_type == "Slice":
            return self._slice(node)
        return False

    def _block(self, channels: int) -> int:
        """Return the channels of a block, or 0 if they are too few for one.

        The last block may hold channels that do not exist. Convolutions make them 0, the operators
        that carry them on keep them finite, and nothing reads them but with weights that are 0.
        """
        size = self.lanes
        while size >= MIN_LANES:
            if channels >= size or channels % size == 0:
                return size
            size //= 2
        return 0

    def _whole(self, channels: int) -> bool:
        """Whether no block holds channels that do not exist."""
        return channels % self._block(channels) == 0

    def _emit(
        self, node: ir.Node, domain: str, op: str, inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Put a node with a blocked result in front of ``node``."""
        output = node.outputs[0]
        attrs = [*node.attributes.values()]
        attrs += [ir.AttrInt64(name, value) for name, value in (attributes or {}).items()]
        made = ir.Node(domain, op, inputs, attrs, name=node.name)
        self.graph.insert_before(node, made)
        self.forms[output] = self._name(made.outputs[0], output)
        return True

    def _name(self, made: ir.Value, plain: ir.Value) -> ir.Value:
        n, channels, *sizes = shape_of(plain)
        block = self._block(channels)
        describe(made, f"{plain.name}_blocked", plain, [n, -(-channels // block), *sizes, block])
        return made

    def _get(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """Return the blocked form of ``value``, made in front of ``node`` if need be."""
        if value not in self.forms:
            made = ir.Node(
                DOMAIN, "Block", [value], [ir.AttrInt64("block", self._block(shape_of(value)[1]))]
            )
            self.graph.insert_before(node, made)
            self.forms[value] = self._name(made.outputs[0], value)
        return self.forms[value]

    def _conv(self, node: ir.Node) -> bool:
        x, weight = node.inputs[0], node.inputs[1]
        if x is None or weight is None or weight.const_value is None:
            return False
        w = weight.const_value.numpy()
        features, depth, *kernel = w.shape
        channels = shape_of(x)[1]
        groups = groups_of(node)
        block = self._block(features)
        if not block:
            return False
        rest = list(node.inputs[2:])
        if rest and rest[0] is not None:
            if rest[0].const_value is None:
                return False
            bias = _padded(rest[0].const_value.numpy(), 0, block)
            rest[0] = self.constant(bias, f"{rest[0].name}_{node.outputs[0].name}_packed")
        name = f"{weight.name}_{node.outputs[0].name}_packed"
        w = _padded(w, 0, block)
        blocks, rank = w.shape[0] // block, len(kernel)
        if groups == 1:
            # Two blocks of features are computed together, so their weights lie together.
            pair = 2 if blocks % 2 == 0 else 1
            inner = self._block(channels)
            if inner and not (x not in self.forms and channels < self.lanes):
                w = _padded(w, 1, inner)
                if self._winograd(node, w, rest, name):
                    return True
                packed = w.reshape(blocks // pair, pair, block, w.shape[1] // inner, inner, *kernel)
                order = [0, 3, *range(5, 5 + rank), 4, 1, 2]
                source = self._get(x, node)
            else:
                inner = 0
                packed = w.reshape(blocks // pair, pair, block, depth, *kernel)
                order = [0, *range(4, 4 + rank), 3, 1, 2]
                source = x
            weights = self.constant(packed.transpose(order), name)
            extra = {"inner": inner, "features": features}
            return self._emit(node, DOMAIN, "Conv", [source, weights, *rest], extra)
        if groups == channels == features:
            packed = w.reshape(blocks, block, *kernel)
            order = [0, *range(2, 2 + rank), 1]
            weights = self.constant(packed.transpose(order), name)
            inputs = [self._get(x, node), weights, *rest]
            return self._emit(node, DOMAIN, "DepthwiseConv", inputs, {"features": features})
        return False

    def _results(self, node: ir.Node, w: Array) -> int:
        """Return the results of a tile and axis by Winograd, or 0 where a sum is better."""
        features, channels, *kernel = w.shape
        if self.accuracy == "strict" or len(kernel) != 2 or kernel[0] != kernel[1]:
            return 0
        steps = [node.attributes.get(name) for name in ("strides", "dilations")]
        if any(s is not None and set(s.as_ints()) != {1} for s in steps):
            return 0
        sizes = shape_of(node.outputs[0])[2:]
        return choose_results(kernel[0], channels, features, sizes, self.lanes)

    def _winograd(self, node: ir.Node, w: Array, rest: list[ir.Value | None], name: str) -> bool:
        """Put a convolution by Winograd in front of ``node``, if that is faster and accurate."""
        results = self._results(node, w)
        if not results:
            return False
        points = transform_weights(w, results)
        if not np.isfinite(points).all():  # an infinity would spread over its tile
            return False
        channels, features = (shape_of(v)[1] for v in (node.inputs[0], node.outputs[0]))
        block, inner = self._block(features), self._block(channels)
        blocks = w.shape[0] // block
        pair = 2 if blocks % 2 == 0 else 1
        size = points.shape[0]
        packed = points.reshape(size, size, blocks // pair, pair, block, -1, inner)
        weights = self.constant(packed.transpose(0, 1, 2, 5, 6, 3, 4), name)
        inputs = [self._get(node.inputs[0], node), weights, *rest]
        extra = {"results": results, "features": features}
        return self._emit(node, DOMAIN, "WinogradConv", inputs, extra)

    def _pool(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if x not in self.forms:
            return False
        return self._emit(node, DOMAIN, node.op_type, [self.forms[x]])

    def _elementwise(self, node: ir.Node) -> bool:
        given = [v for v in node.inputs if v is not None]
        tensors = [v for v in given if v.const_value is None]
        if not tensors or any(v not in self.forms for v in tensors):
            return False
        rank = len(shape_of(node.outputs[0]))
        channels = {shape_of(v)[1] for v in tensors}
        if len(channels) != 1 or any(len(shape_of(v)) != rank for v in tensors):
            return False
        count = channels.pop()
        block = self._block(count)
        if not self._whole(count) and node.op_type not in _KEEP_FINITE:
            return False
        inputs: list[ir.Value | None] = []
        for index, value in enumerate(node.inputs):
            if value is None or value in self.forms:
                inputs.append(None if value is None else self.forms[value])
                continue
            array = value.const_value.numpy()
            if array.size > 1:
                array = _packed(array, rank, block)
                value = self.constant(array, f"{node.outputs[0].name}_{index}_packed")
            inputs.append(value)
        return self._emit(node, "", node.op_type, inputs)

    def _concat(self, node: ir.Node) -> bool:
        values = [v for v in node.inputs if v is not None]
        axis = node.attributes["axis"].as_int()
        rank = len(shape_of(node.outputs[0]))
        if axis % rank != 1 or any(v not in self.forms for v in values):
            return False
        block = self._block(shape_of(node.outputs[0])[1])
        counts = [shape_of(v)[1] for v in values]
        if any(self._block(n) != block for n in counts) or not all(
            n % block == 0 for n in counts[:-1]
        ):
            return False
        return self._emit(node, "", "Concat", [self.forms[v] for v in values])

    def _interleave(self, node: ir.Node) -> bool:
        """Carry DepthToSpace where whole blocks change their place."""
        x, output = node.inputs[0], node.outputs[0]
        mode = node.attributes.get("mode")
        if x not in self.forms or mode is None or mode.as_string() != "DCR":
            return False
        block = self._block(shape_of(x)[1])
        if shape_of(output)[1] % block != 0:
            return False
        return self._emit(node, DOMAIN, "DepthToSpace", [self.forms[x]])

    def _slice(self, node: ir.Node) -> bool:
        """Carry a slice of spatial axes, or of whole blocks of channels, by steps of 1."""
        x, *bounds = node.inputs
        if x not in self.forms or len(bounds) != 3 or any(b.const_value is None for b in bounds):
            return False
        starts, _, axes = (b.const_value.numpy() for b in bounds)
        if axes.min() >= 2:
            return self._emit(node, "", "Slice", [self.forms[x], *bounds])
        block, name = self._block(shape_of(x)[1]), node.outputs[0].name
        channels = shape_of(node.outputs[0])[1]
        if list(axes) != [1] or starts[0] < 0 or any(n % block for n in (starts[0], channels)):
            return False
        if self._block(channels) != block:
            return False
        limits = [starts // block, (starts + channels) // block]
        places = [self.constant(v, f"{name}_{i}_blocks") for i, v in enumerate(limits)]
        return self._emit(node, "", "Slice", [self.forms[x], *places, bounds[2]])


def _padded(array: Array, axis: int, block: int) -> Array:
    """Return ``array`` with zeros at the end of ``axis``, up to a multiple of ``block``."""
    missing = -array.shape[axis] % block
    if not missing:
        return array
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)])


def _packed(array: Array, rank: int, block: int) -> Array:
    """Return a constant operand of an elementwise operator in blocked form."""
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    n, channels, *sizes = array.shape
    if channels == 1:
        return array[..., None]
    split = _padded(array, 1, block).reshape(n, -1, block, *sizes)
    return np.moveaxis(split, 2, -1)
