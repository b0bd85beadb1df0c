"""Packs the constant right operands of matrix products into panels of columns.

A product ``[..., M, K] x [K, N]`` reads its weights column block by column block, so they are
stored that way, once: ``[N/P, K, P]`` with ``P`` columns beside each other, as many as the
registers of a tile hold. The result is written as ``[..., M, N/P, P]``, which is the same memory as
``[..., M, N]``; elementwise operators that follow work on that form, so that they can be fused into
the product, and a ``Reshape``, which costs nothing, gives the plain form to all others.

Every panel meets all rows of the left operand. Where both do not fit the second-level cache, the
sum is taken in parts, one product after the other, each over columns of the left operand that do.

Works on the joined graph in normal form, after ``layout``. The operator is in the domain of the
blocked layouts (``ops/blocked.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    BINARY,
    DOMAIN,
    FLOAT_BYTES,
    MIN_LANES,
    PANEL_VECTORS,
    UNARY,
    Carrier,
    describe,
    part_of,
    reshape,
    shape_of,
)

_MIN_DEPTH: Final = 128  # of a part of a sum: shorter ones pay more for their results
_MOST_MISSING: Final = 16  # one column that does not exist for so many that do


def use_panels(model: ir.Model, lanes: int, l2_bytes: int) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        lanes: Elements of float32 in a vector register.
        l2_bytes: Size of the second-level cache, or 0.
    """
    if lanes >= MIN_LANES:
        _Packer(model.graph, lanes, l2_bytes).run()
        model.opset_imports[DOMAIN] = 1
    return model


class _Packer(Carrier):
    def __init__(self, graph: ir.Graph, lanes: int, l2_bytes: int) -> None:
        super().__init__(graph, lanes)
        self._l2_bytes = l2_bytes
        self._packed: dict[tuple[ir.Value, bool, int], list[ir.Value]] = {}

    def plain(self, value: ir.Value, form: ir.Value) -> ir.Node:
        return reshape(self.graph, form, shape_of(value), str(value.name))

    def convert(self, node: ir.Node) -> bool:
        if node.op_type == "MatMul":
            return self._product(node, node.inputs[1], None, transposed=False)
        if node.op_type == "Gemm":
            return self._gemm(node) or self._turn(node)
        if node.op_type in UNARY or node.op_type in BINARY:
            return self._elementwise(node)
        return False

    def _gemm(self, node: ir.Node) -> bool:
        def number(name: str, default: float) -> float:
            found = node.attributes.get(name)
            return default if found is None else float(found.value)

        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if number("transA", 0) or number("alpha", 1.0) != 1.0:
            return False
        if bias is not None:
            columns = shape_of(node.outputs[0])[-1]
            if number("beta", 1.0) != 1.0 or bias.const_value is None:
                return False
            if bias.const_value.size != 1 and shape_of(bias) not in ([columns], [1, columns]):
                return False
        return self._product(node, node.inputs[1], bias, transposed=bool(number("transB", 0)))

    def _product(
        self, node: ir.Node, weight: ir.Value | None, bias: ir.Value | None, *, transposed: bool
    ) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        if x is None or weight is None or weight.const_value is None or len(shape_of(weight)) != 2:
            return False
        *rows, columns = shape_of(output)
        width = self._width(columns)
        if not rows or not width or len(shape_of(x)) < 2:
            return False
        missing = -columns % width
        parts = self._parts(math.prod(rows), width, columns, shape_of(x)[-1])
        key = (weight, transposed, parts)
        if key not in self._packed:
            w = weight.const_value.numpy()
            w = w.T if transposed else w
            w = np.pad(w, [(0, 0), (0, missing)])
            panels = w.reshape(parts, w.shape[0] // parts, -1, width).transpose(0, 2, 1, 3)
            self._packed[key] = [self.constant(part, f"{weight.name}_panels") for part in panels]
        biases = []
        if bias is not None:
            full = np.broadcast_to(bias.const_value.numpy().reshape(-1), (columns,))
            full = np.pad(full, (0, missing))
            biases.append(
                self.constant(full.reshape(-1, width), f"{bias.name}_{output.name}_panels")
            )
        shape = [*rows, -(-columns // width), width]
        sums: list[ir.Value] = []
        for number, part in enumerate(self._packed[key]):
            depth = shape_of(part)[1]
            inputs = [x, part, *(biases if number == parts - 1 else [])]
            first = [ir.AttrInt64("first", number * depth)]
            made = self._insert(node, ir.Node(DOMAIN, "MatMul", inputs, first), shape, number)
            if sums:
                sums.append(self._insert(node, ir.Node("", "Add", [sums[-1], made]), shape, number))
            else:
                sums.append(made)
        self.forms[output] = self._without(node, sums[-1], missing) if missing else sums[-1]
        return True

    def _without(self, node: ir.Node, split: ir.Value, missing: int) -> ir.Value:
        """Return the plain form of a product whose last panel has columns that do not exist."""
        output = node.outputs[0]
        *rows, columns = shape_of(output)
        whole = reshape(self.graph, split, [*rows, columns + missing], f"{output.name}_padded")
        bounds = {len(rows): (0, columns)}
        part = part_of(self.graph, whole.outputs[0], bounds, f"{output.name}_split")
        self.graph.insert_before(node, [whole, part])
        return part.outputs[0]

    def _parts(self, rows: int, width: int, columns: int, depth: int) -> int:
        """Return in how many parts the sum is taken, a divisor of ``depth``.

        Args:
            rows: Of the left operand.
            width: Columns of a panel.
            columns: Of all panels.
            depth: Elements of a sum.
        """
        used = (rows + 2 * width) * depth * FLOAT_BYTES  # one panel is used, the next arrives
        stays = columns * depth * FLOAT_BYTES <= self._l2_bytes // 2  # all panels do: rows pass by
        if not self._l2_bytes or used <= self._l2_bytes or stays:
            return 1
        least, most = -(-used // (self._l2_bytes // 2)), depth // _MIN_DEPTH
        return next((n for n in range(least, most + 1) if depth % n == 0), 1)

    def _turn(self, node: ir.Node) -> bool:
        """Lay constant weights without panels such that neighbouring results are neighbours."""
        weight = node.inputs[1]
        transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
        if weight is not None and weight.const_value is not None and transposed:
            name = f"{weight.name}_{node.outputs[0].name}_turned"
            node.replace_input_with(1, self.constant(weight.const_value.numpy().T, name))
            node.attributes["transB"] = ir.AttrInt64("transB", 0)
        return False

    def _width(self, columns: int) -> int:
        """Return the columns of a panel, or 0 where panels do not fit.

        A divisor of the columns; a little of the last panel may be missing if all are full.
        """
        full = PANEL_VECTORS * self.lanes
        width = full
        while width >= MIN_LANES:
            if columns % width == 0:
                break
            width //= 2
        if width < full and -columns % full * _MOST_MISSING <= columns:
            return full
        return width if width >= MIN_LANES else 0

    def _elementwise(self, node: ir.Node) -> bool:
        """Carry the split form on: the other operands are of the same shape, rows or constants."""
        shape = shape_of(node.outputs[0])
        split = [v for v in node.inputs if v in self.forms]
        if not split or any(shape_of(v) != shape for v in split if v is not None):
            return False
        wanted = shape_of(self.forms[split[0]])
        if any(shape_of(self.forms[v]) != wanted for v in split if v is not None):
            return False
        inputs: list[ir.Value | None] = []
        pending: list[tuple[int, ir.Value, list[int]]] = []
        for index, value in enumerate(node.inputs):
            if value is None or value in self.forms:
                inputs.append(None if value is None else self.forms[value])
                continue
            own = _split_shape(shape_of(value), wanted)
            if own is None:
                return False
            inputs.append(value)
            if own != shape_of(value):
                pending.append((index, value, own))
        for index, value, own in pending:
            name = f"{node.outputs[0].name}_{index}_split"
            if value.const_value is not None:
                inputs[index] = self.constant(value.const_value.numpy().reshape(own), name)
            else:
                made = reshape(self.graph, value, own, name)
                self.graph.insert_before(node, made)
                inputs[index] = made.outputs[0]
        made = ir.Node("", node.op_type, inputs, [*node.attributes.values()])
        self.forms[node.outputs[0]] = self._insert(node, made, wanted)
        return True

    def _insert(
        self, node: ir.Node, made: ir.Node, shape: Sequence[int], part: int | None = None
    ) -> ir.Value:
        """Put ``made`` in front of the node that it replaces, or a part of; return its result."""
        made.name, output = node.name, node.outputs[0]
        self.graph.insert_before(node, made)
        number = "" if part is None else f"_{part}"
        describe(made.outputs[0], f"{output.name}{number}_split", output, shape)
        return made.outputs[0]


def _split_shape(own: list[int], wanted: list[int]) -> list[int] | None:
    """Return the shape in which an operand broadcasts to the split form; None if it cannot."""
    *_, panels, width = wanted
    if math.prod(own) == 1:
        return own if len(own) <= 1 else [1] * len(wanted)
    if own[-1] == panels * width:
        return [*own[:-1], panels, width]
    return [*own, 1] if own[-1] == 1 else None
