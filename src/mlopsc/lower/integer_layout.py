"""Carries 8-bit integers through a graph in the forms that machines with vectors multiply.

Four channels that lie beside each other are one word of 32 bits, and the sum of the products of two
words one step of a lane (``mlopsc.words``). So a convolution of integers is that of float32 with
words for channels: a tensor ``[N, C, ...]`` becomes ``[N, C/b, ..., b]`` bytes, whose memory is read
as ``[N, C/b, ..., b/4]`` words, and its schedule is found by the same rules. Products with constant
weights have panels of columns. Where an instruction takes unsigned elements, those of all forms are
128 larger (their *offset*), which the constants of every operator absorb.

Takes the joined graph in normal form, with the operators of the domain ``mlopsc.integer``
(docs/integer-semantics.md) on int8; gives operators of ``mlopsc.bytes``
(``ops/blocked_integers.py``). What has no form stays as it is, on plain int8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    BYTES,
    MIN_LANES,
    PANEL_VECTORS,
    Array,
    Carrier,
    groups_of,
    shape_of,
    view,
)
from mlopsc.lower.ops.blocked_integers import word_of
from mlopsc.schema.target import Hardware
from mlopsc.words import WORD_BYTES, Dot

INTEGER: Final = "mlopsc.integer"
_VIEWS: Final = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_OFFSETS: Final[dict[str, int]] = {"madd": 128, "vnni": 128}
_PLAIN_ORDER: Final = -1  # the axis of a form that is no blocks


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


class _Packer(Carrier):
    def __init__(self, graph: ir.Graph, lanes: int, dot: Dot) -> None:
        super().__init__(graph, lanes)
        self._dot = dot
        self._offset = _OFFSETS.get(dot, 0)
        self._dtype = ir.DataType.UINT8 if self._offset else ir.DataType.INT8
        self._axes: dict[ir.Value, int] = {}  # of the channels that the last axis has a part of
        self._words: dict[ir.Value, ir.Value] = {}
        self._rows: dict[ir.Value, ir.Value] = {}

    def _fits(self, node: ir.Node) -> bool:
        return len(node.outputs) == 1 and node.outputs[0].dtype == ir.DataType.INT8

    def plain(self, value: ir.Value, form: ir.Value) -> ir.Node:
        attributes = {"axis": self._axes[form], "offset": self._offset}
        node = _node("Plain", [form], attributes)
        _describe(node.outputs[0], str(value.name), ir.DataType.INT8, shape_of(value))
        return node

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
        if node.op_type in _VIEWS:
            return self._reshape(node)
        return {"MaxPool": self._pool, "Concat": self._concat}.get(node.op_type, _no)(node)

    # What values look like.

    def _block(self, channels: int) -> int:
        """Return the channels of a block; the last one may hold some that do not exist."""
        size = MIN_LANES
        while size < min(channels, self.lanes):
            size *= 2
        return size

    def _blocked_shape(self, value: ir.Value) -> list[int]:
        n, channels, *sizes = shape_of(value)
        block = self._block(channels)
        return [n, -(-channels // block), *sizes, block]

    def _get(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """Return the blocked form of ``value``, made in front of ``node`` if need be."""
        if value not in self.forms or self._axes[self.forms[value]] != 1:
            source, last = value, 0
            if (turned := _channels_last(value)) is not None:
                source, last = turned, 1
            *outer, block = self._blocked_shape(value)
            made = _node("Words", [source], {"last": last, "offset": self._offset})
            words = made.outputs[0]
            _describe(
                words, f"{value.name}_words", ir.DataType.INT32, [*outer, block // WORD_BYTES]
            )
            seen = view(words, self._dtype, [*outer, block], f"{value.name}_blocked")
            self.graph.insert_before(node, [made, seen])
            form = seen.outputs[0]
            self._words[form] = words
            if value in self.forms:
                return form
            self.forms[value], self._axes[form] = form, 1
        return self.forms[value]

    def _words_of(self, form: ir.Value, node: ir.Node) -> ir.Value:
        """Return the memory of a form as words."""
        if form not in self._words:
            *outer, inner = shape_of(form)
            made = view(
                form, ir.DataType.INT32, [*outer, inner // WORD_BYTES], f"{form.name}_words"
            )
            self.graph.insert_before(node, made)
            self._words[form] = made.outputs[0]
        return self._words[form]

    def _get_rows(self, value: ir.Value, node: ir.Node) -> ir.Value | None:
        """Return ``value`` in plain order with the offset, made in front of ``node`` if need be."""
        if value in self._rows:
            return self._rows[value]
        shape, form = shape_of(value), self.forms.get(value)
        if form is not None and self._is_dense(value, form):
            made = [view(form, self._dtype, shape, f"{value.name}_rows")]
        elif not self._offset:
            return value
        elif shape[-1] % WORD_BYTES == 0:
            words = [*shape[:-1], shape[-1] // WORD_BYTES]
            first = view(value, ir.DataType.INT32, words, f"{value.name}_plain_words")
            mask = self.constant(np.array(word_of(self._offset), np.int32), f"{value.name}_mask")
            moved = ir.Node("", "BitwiseXor", [first.outputs[0], mask])
            _describe(moved.outputs[0], f"{value.name}_row_words", ir.DataType.INT32, words)
            last = view(moved.outputs[0], self._dtype, shape, f"{value.name}_rows")
            self._words[last.outputs[0]] = moved.outputs[0]
            made = [first, moved, last]
        else:
            return None
        self.graph.insert_before(node, made)
        self._rows[value] = made[-1].outputs[0]
        return self._rows[value]

    def _is_dense(self, value: ir.Value, form: ir.Value) -> bool:
        """Whether a form has its elements in plain order, and no others."""
        axis, shape = self._axes[form], shape_of(value)
        if axis == _PLAIN_ORDER:
            return True
        return math.prod(shape) == math.prod(shape_of(form)) and math.prod(shape[axis + 1 :]) == 1

    def _emit(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None],
        attributes: dict[str, int | str], shape: Sequence[int], axis: int, domain: str = BYTES,
    ) -> bool:  # fmt: skip
        """Put a node in front of ``node`` whose result is a form of that of ``node``."""
        made = _node(op, inputs, attributes, domain)
        made.name, output = node.name, node.outputs[0]
        self.graph.insert_before(node, made)
        form = made.outputs[0]
        _describe(form, f"{output.name}_form", self._dtype, shape)
        self.forms[output], self._axes[form] = form, axis
        return True

    # Operators.

    def _limits(self, node: ir.Node) -> dict[str, int | str]:
        return {name: _int(node, name) + self._offset for name in ("low", "high")}

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
        w = weight.reshape(weight.shape[0], -1).astype(np.int64)
        if np.abs(w).sum(axis=1).max(initial=0) * (128 + self._offset) >= 1 << 31:
            return None
        left = _int(node, "left_shift")
        added = bias.astype(np.int64) - self._offset * w.sum(axis=1)
        m = np.broadcast_to(multiplier.astype(np.int64), added.shape)
        inside = np.zeros_like(added) if left else added * m
        constant = inside + (1 << 31) + ((_int(node, "zero_out") + self._offset) << 32)
        arrays = [("multiplier", m.astype(np.int32)), ("constant", constant)]
        if left:
            arrays.append(("bias", added.astype(np.int32)))
        name = node.outputs[0].name
        inputs = [
            self.constant(_padded(a, 0, width).reshape(-1, width), f"{name}_{what}")
            for what, a in arrays
        ]
        return inputs, {**self._limits(node), "left_shift": left, "dot": self._dot}

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
        block = self._block(features)
        end = self._sums(node, w, b, m, block)
        if end is None:
            return False
        inputs, attributes = end
        border = _int(node, "zero_in") + self._offset
        kept = {a.name: a for a in node.attributes.values() if a.name in _WINDOW}
        name = f"{node.outputs[0].name}_weights"
        shape = self._blocked_shape(node.outputs[0])
        source = self._get(x, node)
        if depthwise:
            op, packed = self._depthwise_weights(w, block)
            attributes["border"] = border
        else:
            op, packed = "Conv", self._weights(w, block, self._block(channels))
            source = self._words_of(source, node)
            attributes |= {"border": border, "inner": 1}
        given = [source, self.constant(packed, name), *inputs]
        made = self._emit(node, op, given, attributes, shape, 1)
        producer = self.forms[node.outputs[0]].producer()
        for attribute in kept.values():
            producer.attributes.add(attribute)
        return made

    def _weights(self, w: Array, block: int, inner: int) -> Array:
        """Pack ``[F, C, k...]``: two blocks of features are computed together."""
        kernel = w.shape[2:]
        rank = len(kernel)
        w = _padded(_padded(w, 0, block), 1, inner)
        blocks = w.shape[0] // block
        pair = 2 if blocks % 2 == 0 else 1
        split = w.reshape(blocks // pair, pair, block, -1, inner // WORD_BYTES, WORD_BYTES, *kernel)
        order = [0, 3, *range(6, 6 + rank), 4, 1, 2, 5]
        return _as_words(split.transpose(order))

    def _depthwise_weights(self, w: Array, block: int) -> tuple[str, Array]:
        """Pack ``[C, 1, k...]``; four neighbouring taps are a word where one instruction is used."""
        w = _padded(w, 0, block)
        kernel = w.shape[2:]
        rank = len(kernel)
        if self._dot == "plain":
            split = w.reshape(-1, block, *kernel)
            return "DepthwiseProducts", split.transpose([0, *range(2, 2 + rank), 1])
        w = _padded(w, w.ndim - 1, WORD_BYTES)
        split = w.reshape(-1, block, *w.shape[2:-1], w.shape[-1] // WORD_BYTES, WORD_BYTES)
        return "DepthwiseConv", _as_words(split.transpose([0, *range(2, 2 + rank), 1, 2 + rank]))

    def _matmul(self, node: ir.Node) -> bool:
        x, weight, bias, multiplier = node.inputs[:4]
        arrays = [None if v is None else v.const_value for v in (weight, bias, multiplier)]
        if x is None or any(a is None for a in arrays):
            return False
        w, b, m = (a.numpy() for a in arrays if a is not None)
        if w.dtype != np.int8 or w.ndim != 2 or w.shape[0] % WORD_BYTES or len(shape_of(x)) < 2:
            return False
        depth, columns = w.shape
        width = self._width(columns)
        end = self._sums(node, w.T, b, m, width)
        rows = None if end is None else self._get_rows(x, node)
        if end is None or rows is None:
            return False
        inputs, attributes = end
        panels = _padded(w, 1, width).reshape(depth // WORD_BYTES, WORD_BYTES, -1, width)
        packed = self.constant(
            _as_words(panels.transpose(2, 0, 3, 1)), f"{node.outputs[0].name}_panels"
        )
        outer = shape_of(node.outputs[0])[:-1]
        given = [self._words_of(rows, node), packed, *inputs]
        shape = [*outer, -(-columns // width), width]
        return self._emit(node, "MatMul", given, attributes, shape, len(outer))

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
        axis = self._axes[known[0]]
        if len(known) == 1:
            if axis != 1 or len(shape_of(a)) < 3 or any(v.const_value is not None for v in (a, b)):
                return False
            known = [self._get(v, node) for v in (a, b)]
        else:
            known = [self.forms[v] for v in (a, b)]
        if any(self._axes[f] != axis or shape_of(f) != shape_of(known[0]) for f in known):
            return False
        names = ("multiplier_a", "multiplier_b", "constant", "shift")
        ma, mb, constant, shift = (_int(node, name) for name in names)
        constant -= self._offset * (ma + mb)
        values = (ma, mb, _wrapped(constant), shift)
        attributes = {**dict(zip(names, values, strict=True)), **self._limits(node)}
        attributes["offset"] = self._offset
        return self._emit(node, "Add", known, attributes, shape_of(known[0]), axis)

    def _mean(self, node: ir.Node) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        rank = len(shape_of(x))
        if x is None or x not in self.forms or self._axes[self.forms[x]] != 1 or rank < 3:
            return False
        if list(node.attributes["axes"].as_ints()) != list(range(2, rank)):
            return False
        left, multiplier = _int(node, "left_shift"), _int(node, "multiplier")
        count = math.prod(shape_of(x)[2:])
        added = -count * (_int(node, "zero_in") + self._offset)
        if count * (128 + self._offset) >= 1 << 31:
            return False
        constant = (1 << 31) + ((_int(node, "zero_out") + self._offset) << 32)
        constant += 0 if left else added * multiplier
        arrays = [np.array([multiplier], np.int32), np.array([constant], np.int64)]
        arrays += [np.array([added], np.int32)] if left else []
        inputs = [self.constant(a, f"{output.name}_{i}") for i, a in enumerate(arrays)]
        attributes = {**self._limits(node), "left_shift": left}
        n, channels, *sizes = shape_of(x)
        block = self._block(channels)
        shape = [n, -(-channels // block), *[1] * len(sizes), block]
        made = self._emit(node, "Mean", [self.forms[x], *inputs], attributes, shape, 1)
        if len(shape_of(output)) != rank:  # no axes are kept
            form = self.forms[output]
            seen = view(form, self._dtype, [n, shape[1], block], f"{output.name}_flat")
            self.graph.insert_before(node, seen)
            self.forms[output], self._axes[seen.outputs[0]] = seen.outputs[0], 1
        return made

    def _table(self, node: ir.Node) -> bool:
        x, table = node.inputs[0], node.inputs[1]
        if x not in self.forms or table is None or table.const_value is None:
            return False
        values = table.const_value.numpy().astype(np.int64) + self._offset
        made = self.constant(values.astype(self._dtype.numpy()), f"{node.outputs[0].name}_table")
        form = self.forms[x]
        attributes = {"first": 128 - self._offset}
        return self._emit(node, "Table", [form, made], attributes, shape_of(form), self._axes[form])

    def _pool(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if x not in self.forms or self._axes[self.forms[x]] != 1:
            return False
        shape = self._blocked_shape(node.outputs[0])
        made = self._emit(node, "MaxPool", [self.forms[x]], {}, shape, 1)
        producer = self.forms[node.outputs[0]].producer()
        for attribute in node.attributes.values():
            producer.attributes.add(attribute)
        return made

    def _concat(self, node: ir.Node) -> bool:
        values = [v for v in node.inputs if v is not None]
        output = node.outputs[0]
        rank = len(shape_of(output))
        if node.attributes["axis"].as_int() % rank != 1 or rank < 3:
            return False
        if any(v not in self.forms or self._axes[self.forms[v]] != 1 for v in values):
            return False
        block = self._block(shape_of(output)[1])
        counts = [shape_of(v)[1] for v in values]
        if any(self._block(n) != block for n in counts) or any(n % block for n in counts[:-1]):
            return False
        forms = [self.forms[v] for v in values]
        return self._emit(node, "Concat", forms, {"axis": 1}, self._blocked_shape(output), 1, "")

    def _reshape(self, node: ir.Node) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        if x not in self.forms or not self._is_dense(x, self.forms[x]):
            return False
        made = view(self.forms[x], self._dtype, shape_of(output), f"{output.name}_rows")
        self.graph.insert_before(node, made)
        form = made.outputs[0]
        self.forms[output], self._axes[form] = form, _PLAIN_ORDER
        return True


_WINDOW: Final = frozenset({"auto_pad", "dilations", "pads", "strides"})


def _no(node: ir.Node) -> bool:
    return False


def _int(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int()


def _node(
    op: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], domain: str = BYTES
) -> ir.Node:
    made = [
        ir.AttrString(name, value) if isinstance(value, str) else ir.AttrInt64(name, int(value))
        for name, value in attributes.items()
    ]
    return ir.Node(domain, op, inputs, made)


def _describe(value: ir.Value, name: str, dtype: ir.DataType, shape: Sequence[int]) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(list(shape))


def _channels_last(value: ir.Value) -> ir.Value | None:
    """Return the tensor with its channels last that ``value`` is the transposition of, if any."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.domain:
        return None
    rank = len(shape_of(value))
    wanted = [0, rank - 1, *range(1, rank - 1)]
    return node.inputs[0] if list(node.attributes["perm"].as_ints()) == wanted else None


def _wrapped(value: int) -> int:
    """Return ``value`` as int32 keeps it."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _padded(array: Array, axis: int, block: int) -> Array:
    """Return ``array`` with zeros at the end of ``axis``, up to a multiple of ``block``."""
    missing = -array.shape[axis] % block
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)])


def _as_words(array: Array) -> Array:
    """Return int8 ``[..., 4]`` as int32 ``[...]``, the first element in the lowest byte."""
    return np.ascontiguousarray(array).view("<i4")[..., 0]
