"""What 8-bit integers look like where machines with vectors multiply them, and how they get there.

A value has three forms beside the plain one: blocks of channels, the same memory as words, and
plain order with the *offset*, which makes elements unsigned where an instruction wants them so. A
form is made when it is first needed; ``integer_layout`` says which operators read and give them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import onnx_ir as ir

from mlopsc.lower.forms import BYTES, Carrier, shape_of, view
from mlopsc.lower.integer_packing import block_of
from mlopsc.words import WORD_BYTES, Dot

PLAIN_ORDER: Final = -1  # the axis of a form that is no blocks
_OFFSETS: Final[dict[str, int]] = {"madd": 128, "vnni": 128}
VIEWS: Final = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_SIZES: Final = (4, 8, 16, 32, 64)  # of blocks

_WINDOW: Final = frozenset(
    {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}
)


class IntegerCarrier(Carrier):
    """A pass that carries forms of 8-bit integers.

    Attributes:
        dot: How two words are multiplied.
        offset: What elements of forms are larger than those of plain tensors.
        dtype: Of the elements of forms.
    """

    def __init__(self, graph: ir.Graph, lanes: int, dot: Dot) -> None:
        """Prepare to rewrite ``graph``."""
        super().__init__(graph, lanes)
        self.dot = dot
        self.offset = _OFFSETS.get(dot, 0)
        self.dtype = ir.DataType.UINT8 if self.offset else ir.DataType.INT8
        self.axes: dict[ir.Value, int] = {}  # of the channels that the last axis has a part of
        self._blocks = [n for n in _SIZES if n <= lanes]
        self._words: dict[ir.Value, ir.Value] = {}
        self._rows: dict[ir.Value, ir.Value] = {}

    def _fits(self, node: ir.Node) -> bool:
        return len(node.outputs) == 1 and node.outputs[0].dtype == ir.DataType.INT8

    def plain(self, value: ir.Value, form: ir.Value) -> ir.Node:
        """Return a node that makes ``value``, with its name, of a form."""
        attributes = {"axis": self.axes[form], "offset": self.offset}
        node = _node("Plain", [form], attributes)
        _describe(node.outputs[0], str(value.name), ir.DataType.INT8, shape_of(value))
        return node

    def block(self, channels: int) -> int:
        """Return the channels of a block; the last one may hold some that do not exist."""
        return block_of(channels, self._blocks)

    def blocked_shape(self, value: ir.Value) -> list[int]:
        """Return the shape of the blocked form of ``value``."""
        n, channels, *sizes = shape_of(value)
        block = self.block(channels)
        return [n, -(-channels // block), *sizes, block]

    def blocked(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """Return the blocked form of ``value``, made in front of ``node`` if need be."""
        if value not in self.forms or self.axes[self.forms[value]] != 1:
            source, last = value, 0
            if (turned := _channels_last(value)) is not None:
                source, last = turned, 1
            *outer, block = self.blocked_shape(value)
            made = _node("Words", [source], {"last": last, "offset": self.offset})
            words = made.outputs[0]
            _describe(
                words, f"{value.name}_words", ir.DataType.INT32, [*outer, block // WORD_BYTES]
            )
            seen = view(words, self.dtype, [*outer, block], f"{value.name}_blocked")
            self.graph.insert_before(node, [made, seen])
            form = seen.outputs[0]
            self._words[form] = words
            if value in self.forms:
                return form
            self.forms[value], self.axes[form] = form, 1
        return self.forms[value]

    def words(self, form: ir.Value, node: ir.Node) -> ir.Value:
        """Return the memory of a form as words."""
        if form not in self._words:
            *outer, inner = shape_of(form)
            made = view(
                form, ir.DataType.INT32, [*outer, inner // WORD_BYTES], f"{form.name}_words"
            )
            self.graph.insert_before(node, made)
            self._words[form] = made.outputs[0]
        return self._words[form]

    def rows(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """Return ``value`` in plain order with the offset, made in front of ``node`` if need be."""
        if value in self._rows:
            return self._rows[value]
        shape, form = shape_of(value), self.forms.get(value)
        if form is not None and self.is_dense(value, form):
            made = view(form, self.dtype, shape, f"{value.name}_rows")
        elif not self.offset and not _is_callers(value):
            return value
        else:  # words of what a caller gives might lie at any address
            made = _node("Rows", [value], {"offset": self.offset})
            _describe(made.outputs[0], f"{value.name}_rows", self.dtype, shape)
        self.graph.insert_before(node, made)
        self._rows[value] = made.outputs[0]
        return self._rows[value]

    def is_dense(self, value: ir.Value, form: ir.Value) -> bool:
        """Whether a form has its elements in plain order, and no others."""
        axis, shape = self.axes[form], shape_of(value)
        if axis == PLAIN_ORDER:
            return True
        return math.prod(shape) == math.prod(shape_of(form)) and math.prod(shape[axis + 1 :]) == 1

    def emit(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None],
        attributes: dict[str, int | str], shape: Sequence[int], axis: int, domain: str = BYTES,
        *, window: bool = False,
    ) -> bool:  # fmt: skip
        """Put a node in front of ``node`` whose result is a form of that of ``node``.

        Args:
            node: To be replaced.
            op: Operator.
            inputs: Of the new node.
            attributes: Of the new node.
            shape: Of the form.
            axis: Of the channels in the plain shape, or ``PLAIN_ORDER``.
            domain: Of the operator.
            window: Whether attributes that describe a window are the same.
        """
        made = _node(op, inputs, attributes, domain)
        for attribute in node.attributes.values():
            if window and attribute.name in _WINDOW:
                made.attributes.add(attribute)
        made.name, output = node.name, node.outputs[0]
        self.graph.insert_before(node, made)
        form = made.outputs[0]
        _describe(form, f"{output.name}_form", self.dtype, shape)
        self.forms[output], self.axes[form] = form, axis
        return True


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


def _is_callers(value: ir.Value) -> bool:
    """Whether the memory of a plain value is that of an input of the graph."""
    node = value.producer()
    while node is not None and node.op_type in VIEWS and not node.domain:
        source = node.inputs[0]
        if source is None:
            return False
        value, node = source, source.producer()
    return node is None


def _channels_last(value: ir.Value) -> ir.Value | None:
    """Return the tensor with its channels last that ``value`` is the transposition of, if any."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.domain:
        return None
    rank = len(shape_of(value))
    wanted = [0, rank - 1, *range(1, rank - 1)]
    return node.inputs[0] if list(node.attributes["perm"].as_ints()) == wanted else None
