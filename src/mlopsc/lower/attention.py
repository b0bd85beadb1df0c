"""Attention over long sequences: scores exist for a block of query rows at a time.

``softmax(f(Q K^T)) V`` makes a matrix of scores per head, of queries x keys, that is written to
memory and read back several times. Where all scores exceed the second-level cache by far, the
pattern becomes two loops, over heads and inside them over blocks of queries, such that what is
between the two products stays in the cache. ``f`` is a chain of elementwise operators.

A block is computed transposed, ``[keys, rows]``: both products then read their operands along
memory, and the maximum and the sum of a row are taken of as many rows as a vector has lanes. The
sum divides the result, which has fewer elements than the scores. Blocks are of equal size; the last
one starts earlier where they do not divide the rows.

Works on the joined graph in normal form, before the passes on layouts, which leave bodies alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    Array,
    add_constant,
    describe,
    replace_by,
    reshape,
    shape_of,
)

_CHAIN: Final = UNARY | BINARY | {"Where"}
_MANY_CACHES: Final = 4  # scores that are smaller than so many stay as they are


def block_attention(model: ir.Model, lanes: int, l2_bytes: int) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        lanes: Elements of float32 in a vector register.
        l2_bytes: Size of the second-level cache, or 0: then nothing is rewritten.
    """
    if lanes < MIN_LANES or not l2_bytes:
        return model
    for node in list(model.graph):
        found = _match(node)
        blocks = None if found is None else _divide(found, PANEL_VECTORS * lanes, l2_bytes)
        if found is not None and blocks is not None:
            _Rewriter(model.graph, found, blocks).run()
            model.opset_imports[DOMAIN] = 1
    return model


@dataclass(frozen=True)
class _Attention:
    """The nodes of one pattern.

    Attributes:
        scores: The first product: ``[..., Q, D] x [..., D, K]``.
        chain: Elementwise nodes between it and the softmax, in order.
        softmax: Along the keys.
        product: The second product: ``[..., Q, K] x [..., K, V]``.
    """

    scores: ir.Node
    chain: tuple[ir.Node, ...]
    softmax: ir.Node
    product: ir.Node

    @property
    def shape(self) -> list[int]:
        """The shape of the scores: ``[..., Q, K]``."""
        return shape_of(self.scores.outputs[0])


def _match(node: ir.Node) -> _Attention | None:
    """Return the pattern that begins with ``node``, if nothing else needs what lies inside it."""
    if node.op_type != "MatMul" or node.domain or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    shape, chain = shape_of(node.outputs[0]), []
    if len(shape) < 2 or any(len(shape_of(v)) < 2 for v in node.inputs):
        return None
    last = node
    while (user := _only_user(last)) is not None and user.op_type in _CHAIN:
        output = user.outputs[0]
        if shape_of(output) != shape or output.dtype != ir.DataType.FLOAT:
            return None
        # An operand as large as the scores would have to be arranged anew, in as much memory.
        if any(_is_large(v, shape) for v in user.inputs if v is not last.outputs[0]):
            return None
        chain.append(user)
        last = user
    if user is None or user.op_type != "Softmax" or not _is_along_keys(user, len(shape)):
        return None
    product = _only_user(user)
    if product is None or product.op_type != "MatMul":
        return None
    if product.inputs[0] is not user.outputs[0] or len(shape_of(product.inputs[1])) < 2:
        return None
    # Values for more heads than there are scores would need the scores several times.
    if shape_of(product.outputs[0])[:-2] != shape[:-2]:
        return None
    return _Attention(node, tuple(chain), user, product)


def _only_user(node: ir.Node) -> ir.Node | None:
    """Return the node of the same graph that alone uses the result of ``node``, once."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    user = uses[0].node
    return user if not user.domain and user.graph is node.graph else None


def _is_large(value: ir.Value | None, shape: Sequence[int]) -> bool:
    return value is not None and value.const_value is None and shape_of(value) == list(shape)


def _is_along_keys(softmax: ir.Node, rank: int) -> bool:
    axis = softmax.attributes["axis"].as_int() if "axis" in softmax.attributes else -1
    return axis in (-1, rank - 1)


@dataclass(frozen=True)
class _Blocks:
    """How the rows of a head are divided.

    Attributes:
        queries: Rows of a head.
        rows: Of a block, a multiple of ``width``.
        count: Blocks of a head.
        width: Rows of a panel.
    """

    queries: int
    rows: int
    count: int
    width: int

    @property
    def divide(self) -> bool:
        """Whether no two blocks overlap."""
        return self.rows * self.count == self.queries

    def starts(self) -> Array:
        """Return the first row of each block."""
        return np.minimum(np.arange(self.count) * self.rows, self.queries - self.rows)

    def sources(self) -> Array:
        """Return the row of the head for each row of the blocks."""
        return (self.starts()[:, None] + np.arange(self.rows)).reshape(-1)

    def places(self) -> Array:
        """Return the row of the blocks for each row of the head."""
        rows = np.arange(self.queries)
        block = np.minimum(rows // self.rows, self.count - 1)
        return block * self.rows + rows - self.starts()[block]


def _divide(found: _Attention, width: int, l2_bytes: int) -> _Blocks | None:
    """Return the blocks of a pattern: scores and powers fit half of the second-level cache.

    None where the scores are not worth it: all of them, or those of one head, are too few.
    """
    *_, queries, keys = found.shape
    head = queries * keys * FLOAT_BYTES
    total = math.prod(found.shape) * FLOAT_BYTES
    if total <= _MANY_CACHES * l2_bytes or head < l2_bytes // 4 or queries < width:
        return None
    fitting = l2_bytes // 2 // (2 * keys * FLOAT_BYTES)
    rows = max(1, min(fitting, queries) // width) * width
    count = -(-queries // rows)
    rows = -(-queries // (count * width)) * width
    return _Blocks(queries, rows, count, width)


class _Nodes:
    """Nodes that are made one after the other, for the graph or for a body."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix
        self.made: list[ir.Node] = []

    def add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        shape: Sequence[int],
        like: ir.Value,
        *attributes: ir.Attr,
        domain: str = "",
    ) -> ir.Value:
        """Add a node whose result has the element type of ``like``; return the result."""
        node = ir.Node(domain, op, inputs, attributes)
        describe(node.outputs[0], f"{self.prefix}_{len(self.made)}", like, shape)
        self.made.append(node)
        return node.outputs[0]

    def view(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Return ``value`` with another shape."""
        if shape_of(value) == list(shape):
            return value
        node = reshape(self.graph, value, shape, f"{self.prefix}_{len(self.made)}")
        self.made.append(node)
        return node.outputs[0]

    def transpose(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        """Return ``value`` with its axes in the order ``perm``."""
        shape = [shape_of(value)[axis] for axis in perm]
        return self.add("Transpose", [value], shape, value, ir.AttrInt64s("perm", perm))

    def take(self, value: ir.Value, place: ir.Value, axis: int = 0) -> ir.Value:
        """Return the elements of ``value`` at a place, or at several, of an axis."""
        shape = shape_of(value)
        taken = [*shape[:axis], *shape_of(place), *shape[axis + 1 :]]
        return self.add("Gather", [value, place], taken, value, ir.AttrInt64("axis", axis))

    def constant(self, array: Array) -> ir.Value:
        """Return a constant."""
        return add_constant(self.graph, array, f"{self.prefix}_{len(self.made)}_constant")

    def loop(self, trips: int, inside: _Nodes, counter: ir.Value, result: ir.Value) -> ir.Value:
        """Run ``inside`` for each value of ``counter``; return the stack of its results."""
        going = ir.Value(
            name=f"{inside.prefix}_going", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([])
        )
        body = ir.Graph(
            [counter, going], [going, result], nodes=inside.made, name=f"{inside.prefix}_body"
        )
        count = self.constant(np.array(trips, np.int64))
        shape = [trips, *shape_of(result)]
        return self.add("Loop", [count, None], shape, result, ir.AttrGraph("body", body))


def _counter(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))


class _Rewriter:
    """Replaces one pattern.

    Three lists of nodes are made: before the loops, in the loop over heads and in the one over
    blocks. What has ``n`` heads of its own, as many as the scores, one, or a number that
    broadcasts, is arranged as ``[n, ...]`` before the loops.
    """

    def __init__(self, graph: ir.Graph, found: _Attention, blocks: _Blocks) -> None:
        self._graph = graph
        self._found = found
        self._blocks = blocks
        name = str(found.product.outputs[0].name)
        self._before = _Nodes(graph, name)
        self._per_head = _Nodes(graph, f"{name}_head")
        self._per_block = _Nodes(graph, f"{name}_block")
        self._head = _counter(f"{name}_head_number")
        self._block = _counter(f"{name}_block_number")

    def run(self) -> None:
        """Put the loops in the place of the pattern."""
        found, blocks = self._found, self._blocks
        output = found.product.outputs[0]
        heads, width = math.prod(found.shape[:-2]), shape_of(output)[-1]
        result = self._compute()
        stack = self._per_head.loop(blocks.count, self._per_block, self._block, result)
        whole = self._before.loop(heads, self._per_head, self._head, stack)
        if not blocks.divide:
            rows = self._before.view(whole, [heads, blocks.count * blocks.rows, width])
            whole = self._before.take(rows, self._before.constant(blocks.places()), 1)
        self._before.view(whole, shape_of(output))
        replace_by(self._graph, found.product, self._before.made)
        self._graph.remove([found.softmax, *reversed(found.chain), found.scores], safe=True)

    def _compute(self) -> ir.Value:
        """Make the nodes of one block; return its result, ``[rows, V]``."""
        found, blocks, inner = self._found, self._blocks, self._per_block
        keys, like = found.shape[-1], found.scores.outputs[0]
        query = self._of_block(found.scores.inputs[0])
        key = self._of_head(self._plain_keys())
        value = self._of_head(found.product.inputs[1])
        scores = inner.add(
            "MatMul",
            [key, inner.transpose(query, [1, 0, 2])],
            [keys, *shape_of(query)[1:]],
            like,
            ir.AttrInt64("first", 0),
            domain=DOMAIN,
        )
        last = found.scores
        for node in found.chain:
            inputs = [scores if v is last.outputs[0] else self._operand(v) for v in node.inputs]
            shape = shape_of(scores)
            scores = inner.add(node.op_type, inputs, shape, like, *node.attributes.values())
            last = node
        scores = inner.view(scores, [keys, blocks.rows])
        rows = [blocks.rows]
        over_keys = (ir.AttrInt64s("axes", [0]), ir.AttrInt64("keepdims", 0))
        peak = inner.add("ReduceMax", [scores], rows, like, *over_keys)
        shifted = inner.add("Sub", [scores, peak], shape_of(scores), like)
        powers = inner.add("Exp", [shifted], shape_of(scores), like)
        total = inner.add("ReduceSum", [powers], rows, like, *over_keys)
        share = inner.add("Reciprocal", [total], rows, like)
        shape = [blocks.rows, shape_of(value)[-1]]
        turned = ir.AttrInt64("transA", 1)
        mixed = inner.add("Gemm", [powers, value], shape, like, turned)
        return inner.add("Mul", [mixed, inner.view(share, [blocks.rows, 1])], shape, like)

    def _plain_keys(self) -> ir.Value:
        """Return the keys as ``[..., K, D]``; they often come transposed from just that."""
        turned = self._found.scores.inputs[1]
        rank = len(shape_of(turned))
        perm = [*range(rank - 2), rank - 1, rank - 2]
        producer = turned.producer()
        if producer is None or producer.op_type != "Transpose" or producer.domain:
            return self._before.transpose(turned, perm)
        own = list(producer.attributes["perm"].as_ints())
        perm = [own[axis] for axis in perm]
        source = producer.inputs[0]
        return source if perm == sorted(perm) else self._before.transpose(source, perm)

    def _operand(self, value: ir.Value | None) -> ir.Value | None:
        """Return what a block needs of an operand of the chain, or None if it is left out."""
        if value is None or len(shape_of(value)) == 0:
            return value
        shape = shape_of(value)
        if math.prod(shape) == 1:
            return self._before.view(value, [1])
        aligned = self._before.view(value, [1] * (len(self._found.shape) - len(shape)) + shape)
        if shape_of(aligned)[-2] != 1:
            return self._of_block(aligned)
        return self._per_head.view(self._of_head(aligned), [shape[-1], 1, 1])

    def _of_head(self, value: ir.Value) -> ir.Value:
        """Return the matrix that belongs to the head: ``[..., m, n]`` → ``[m, n]``."""
        *lead, rows, columns = shape_of(value)
        own = math.prod(lead)
        place = self._place(lead)
        if place is None:
            return self._before.view(value, [rows, columns])
        return self._per_head.take(self._before.view(value, [own, rows, columns]), place)

    def _of_block(self, value: ir.Value) -> ir.Value:
        """Return the rows of the block in panels: ``[..., Q, n]`` → ``[n, rows / P, P]``.

        They are arranged before the loops; a block takes what lies together.
        """
        *lead, rows, columns = shape_of(value)
        own, blocks, before = math.prod(lead), self._blocks, self._before
        whole = before.view(value, [own, rows, columns])
        if not blocks.divide:
            whole = before.take(whole, before.constant(blocks.sources()), 1)
        whole = before.view(whole, [own * blocks.count, blocks.rows, columns])
        panels = [blocks.rows // blocks.width, blocks.width]
        whole = before.transpose(whole, [0, 2, 1])
        whole = before.view(whole, [own * blocks.count, columns, *panels])
        place = self._place(lead)
        number = self._block
        if place is not None:
            count = before.constant(np.array(blocks.count, np.int64))
            first = self._per_head.add("Mul", [place, count], [], place)
            number = self._per_block.add("Add", [first, number], [], number)
        return self._per_block.take(whole, number)

    def _place(self, lead: Sequence[int]) -> ir.Value | None:
        """Return which of ``prod(lead)`` matrices belongs to the head; None if there is one."""
        own, wanted = math.prod(lead), self._found.shape[:-2]
        if own == 1:
            return None
        if own == math.prod(wanted):
            return self._head
        aligned = np.arange(own).reshape([1] * (len(wanted) - len(lead)) + list(lead))
        table = np.broadcast_to(aligned, wanted).reshape(-1)
        return self._per_head.take(self._before.constant(table), self._head)
