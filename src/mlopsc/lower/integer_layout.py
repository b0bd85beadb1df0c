"""Carries 8-bit integers through a graph in the forms that machines with vectors multiply.

Four channels that lie beside each other are one word of 32 bits, and the sum of the products of two
words one step of a lane (``mlopsc.words``). So a convolution of integers is that of float32 with
words for channels: a tensor ``[N, C, ...]`` becomes ``[N, C/b, ..., b]`` bytes, whose memory is
read as ``[N, C/b, ..., b/4]`` words, and its schedule is found by the same rules. Products with
constant weights have panels of columns. Where an instruction takes unsigned elements, those of all
forms are 128 larger (their *offset*), which the constants of every operator absorb.

Takes the joined graph in normal form, with the operators of the domain ``mlopsc.integer``
(docs/integer-semantics.md) on int8; gives operators of ``mlopsc.bytes``
(``ops/blocked_integers.py``). What has no form stays as it is, on plain int8.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    BYTES,
    MIN_LANES,
    PANEL_VECTORS,
    Array,
    groups_of,
    shape_of,
    view,
)
from mlopsc.lower.integer_forms import PLAIN_ORDER, VIEWS, IntegerCarrier
from mlopsc.lower.integer_packing import (
    Requantisation,
    convolution_words,
    depthwise_elements,
    depthwise_words,
    fits,
    panel_words,
    products_with,
    wrapped,
)
from mlopsc.schema.target import Hardware
from mlopsc.words import WORD_BYTES

INTEGER: Final = "mlopsc.integer"


def use_integer_forms(model: ir.Model, hardware: Hardware, lanes: int) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        hardware: Says which instruction sums products of 8-bit integers.
        lanes: Elements of 32 bits in a vector register.
    """
    if lanes >= MIN_LANES:
        _Packer(model.graph, lanes, "plain" if hardware.dot == "none" else hardware.dot).run()
        model.opset_imports[BYTES] = 1
    return model


class _Packer(IntegerCarrier):
    def convert(self, node: ir.Node) -> bool:
        if "wide" in node.attributes:  # sums of 64 bits
            return False
        if node.domain == INTEGER:
            ways = {
                "Add": self._add, "Conv": self._conv, "MatMul": self._matmul, "Mean": self._mean,
                "Table": self._table,
            }  # fmt: skip
            return node.op_type in ways and ways[node.op_type](node)
        if node.domain:
            return False
        if node.op_type in VIEWS:
            return self._reshape(node)
        return {"MaxPool": self._pool, "Concat": self._concat}.get(node.op_type, _no)(node)

    def _limits(self, node: ir.Node) -> dict[str, int | str]:
        return {name: _int(node, name) + self.offset for name in ("low", "high")}

    def _sums(
        self, node: ir.Node, weight: Array, bias: Array, multiplier: Array, width: int
    ) -> tuple[list[ir.Value], dict[str, int | str]] | None:
        """Return the inputs and attributes that requantise sums of products.

        Args:
            node: With ``left_shift``, ``zero_out`` and limits.
            weight: ``[F, ...]``, what is multiplied.
            bias: ``[F]``, with what zero points contribute.
            multiplier: ``[F]``.
            width: Features of a block.

        Returns:
            None where a sum might leave int32.
        """
        if not fits(weight, 128 + self.offset):
            return None
        added = bias.astype(np.int64) - products_with(self.offset, weight)
        return self._requantised(node, multiplier, added, width)

    def _requantised(
        self, node: ir.Node, multiplier: Array, bias: Array, width: int
    ) -> tuple[list[ir.Value], dict[str, int | str]]:
        """Return the same of sums to which a ``bias`` is added, which may be int64."""
        left, zero = _int(node, "left_shift"), _int(node, "zero_out") + self.offset
        name = node.outputs[0].name
        packed = Requantisation.of(multiplier, bias, zero, left).packed(width)
        inputs = [self.constant(array, f"{name}_{what}") for what, array in packed]
        return inputs, {**self._limits(node), "left_shift": left, "dot": self.dot}

    def _conv(self, node: ir.Node) -> bool:
        x, weight, bias, multiplier = node.inputs[:4]
        arrays = [None if v is None else v.const_value for v in (weight, bias, multiplier)]
        if x is None or any(a is None for a in arrays):
            return False
        w, b, m = (a.numpy() for a in arrays if a is not None)
        if w.dtype != np.int8 or len(shape_of(x)) < 3:
            return False
        features, channels = w.shape[0], shape_of(x)[1]
        groups = groups_of(node)
        depthwise = groups == channels == features and groups > 1
        if groups != 1 and not depthwise:
            return False
        block = self.block(features)
        end = self._sums(node, w, b, m, block)
        if end is None:
            return False
        inputs, attributes = end
        name = f"{node.outputs[0].name}_weights"
        source = self.blocked(x, node)
        attributes["border"] = _int(node, "zero_in") + self.offset
        if depthwise and self.dot == "plain":
            op, packed = "DepthwiseProducts", depthwise_elements(w, block)
        elif depthwise:
            op, packed = "DepthwiseConv", depthwise_words(w, block)
        else:
            op, packed = "Conv", convolution_words(w, block, self.block(channels))
            source = self.words(source, node)
            attributes["inner"] = 1
        given = [source, self.constant(packed, name), *inputs]
        shape = self.blocked_shape(node.outputs[0])
        return self.emit(node, op, given, attributes, shape, 1, window=True)

    def _matmul(self, node: ir.Node) -> bool:
        x, weight, bias, multiplier = node.inputs[:4]
        arrays = [None if v is None else v.const_value for v in (weight, bias, multiplier)]
        if x is None or any(a is None for a in arrays):
            return False
        w, b, m = (a.numpy() for a in arrays if a is not None)
        if w.dtype != np.int8 or w.ndim != 2 or w.shape[0] % WORD_BYTES or len(shape_of(x)) < 2:
            return False
        columns = w.shape[1]
        width = self._width(columns)
        end = self._sums(node, w.T, b, m, width)
        if end is None:
            return False
        inputs, attributes = end
        packed = self.constant(panel_words(w, width), f"{node.outputs[0].name}_panels")
        outer = shape_of(node.outputs[0])[:-1]
        given = [self.words(self.rows(x, node), node), packed, *inputs]
        shape = [*outer, -(-columns // width), width]
        return self.emit(node, "MatMul", given, attributes, shape, len(outer))

    def _width(self, columns: int) -> int:
        """Return the columns of a panel, of which the last may miss some."""
        width = PANEL_VECTORS * self.lanes
        while width > self.lanes and columns % width:
            width //= 2
        return min(width, max(MIN_LANES, 1 << (columns - 1).bit_length()))

    def _add(self, node: ir.Node) -> bool:
        a, b = node.inputs
        if a is None or b is None or shape_of(a) != shape_of(b):
            return False
        known = [self.forms[v] for v in (a, b) if v in self.forms]
        if not known:
            return False
        axis = self.axes[known[0]]
        if len(known) == 1:
            if axis != 1 or len(shape_of(a)) < 3 or any(v.const_value is not None for v in (a, b)):
                return False
            known = [self.blocked(v, node) for v in (a, b)]
        else:
            known = [self.forms[v] for v in (a, b)]
        if any(self.axes[f] != axis or shape_of(f) != shape_of(known[0]) for f in known):
            return False
        names = ("multiplier_a", "multiplier_b", "constant", "shift")
        ma, mb, constant, shift = (_int(node, name) for name in names)
        constant -= self.offset * (ma + mb)
        values = (ma, mb, wrapped(constant), shift)
        attributes = {**dict(zip(names, values, strict=True)), **self._limits(node)}
        attributes["offset"] = self.offset
        return self.emit(node, "Add", known, attributes, shape_of(known[0]), axis)

    def _mean(self, node: ir.Node) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        rank = len(shape_of(x))
        if x is None or x not in self.forms or self.axes[self.forms[x]] != 1 or rank < 3:
            return False
        if list(node.attributes["axes"].as_ints()) != list(range(2, rank)):
            return False
        count = math.prod(shape_of(x)[2:])
        if not fits(np.ones((1, count), np.int8), 128 + self.offset):
            return False
        added = np.array([-count * (_int(node, "zero_in") + self.offset)])
        multiplier = np.array([_int(node, "multiplier")])
        inputs, attributes = self._requantised(node, multiplier, added, 1)
        n, channels, *sizes = shape_of(x)
        block = self.block(channels)
        shape = [n, -(-channels // block), *[1] * len(sizes), block]
        made = self.emit(node, "Mean", [self.forms[x], *inputs], attributes, shape, 1)
        if len(shape_of(output)) != rank:  # no axes are kept
            form = self.forms[output]
            seen = view(form, self.dtype, [n, shape[1], block], f"{output.name}_flat")
            self.graph.insert_before(node, seen)
            self.forms[output], self.axes[seen.outputs[0]] = seen.outputs[0], 1
        return made

    def _table(self, node: ir.Node) -> bool:
        x, table = node.inputs[0], node.inputs[1]
        if x not in self.forms or table is None or table.const_value is None:
            return False
        values = table.const_value.numpy().astype(np.int64) + self.offset
        made = self.constant(values.astype(self.dtype.numpy()), f"{node.outputs[0].name}_table")
        form = self.forms[x]
        attributes: dict[str, int | str] = {"first": 128 - self.offset}
        return self.emit(node, "Table", [form, made], attributes, shape_of(form), self.axes[form])

    def _pool(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if x not in self.forms or self.axes[self.forms[x]] != 1:
            return False
        shape = self.blocked_shape(node.outputs[0])
        return self.emit(node, "MaxPool", [self.forms[x]], {}, shape, 1, window=True)

    def _concat(self, node: ir.Node) -> bool:
        values = [v for v in node.inputs if v is not None]
        output = node.outputs[0]
        rank = len(shape_of(output))
        if node.attributes["axis"].as_int() % rank != 1 or rank < 3:
            return False
        if any(v not in self.forms or self.axes[self.forms[v]] != 1 for v in values):
            return False
        block = self.block(shape_of(output)[1])
        counts = [shape_of(v)[1] for v in values]
        if any(self.block(n) != block for n in counts) or any(n % block for n in counts[:-1]):
            return False
        forms = [self.forms[v] for v in values]
        return self.emit(node, "Concat", forms, {"axis": 1}, self.blocked_shape(output), 1, "")

    def _reshape(self, node: ir.Node) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        if x not in self.forms or not self.is_dense(x, self.forms[x]):
            return False
        made = view(self.forms[x], self.dtype, shape_of(output), f"{output.name}_rows")
        self.graph.insert_before(node, made)
        form = made.outputs[0]
        self.forms[output], self.axes[form] = form, PLAIN_ORDER
        return True


def _no(node: ir.Node) -> bool:
    return False


def _int(node: ir.Node, name: str) -> int:
    return int(node.attributes[name].as_int())
