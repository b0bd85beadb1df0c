"""Patch-wise execution: the first layers are computed for one patch of their result at a time.

Takes the joined graph, and which layers and patches; gives a graph in which a loop over the patches
computes those layers and nothing holds a whole tensor between them. Neighbouring patches need some
elements of the layers between both, which are computed for each: RAM for time. Every element is
computed from the same operands as before. A patch at the border of a layer is as large as any
other: what lies outside is set to what the border of the next layer holds. Source: Lin et al.,
"MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.chains import Chain, Link, Part, chains, parts_of
from mlopsc.lower.forms import add_constant, describe, groups_of, shape_of
from mlopsc.lower.ops.patches import DOMAIN

MOST_PATCHES: Final = 256
_BORDER_COST: Final = 4  # of an element, in multiply-accumulates


@dataclass(frozen=True)
class Patches:
    """Which layers are computed in patches, and which.

    Attributes:
        chain: Number of the chain.
        links: How many of its layers.
        grid: Patches along rows and columns.
        work: Multiply-accumulates of those layers in patches, those of a border included.
        whole: The same without patches.
        arena: Estimated bytes of the arena while they run.
    """

    chain: int
    links: int
    grid: tuple[int, int]
    work: int
    whole: int
    arena: int

    @property
    def count(self) -> int:
        """Number of patches."""
        return math.prod(self.grid)

    def __str__(self) -> str:
        """Say it to people."""
        more = 100 * (self.work - self.whole) / max(1, self.whole)
        rows, columns = self.grid
        return f"{self.links} layers in {rows} x {columns} patches, {more:.0f} % more work in them"


def possible_patches(graph: ir.Graph, align: int, *, io_in_arena: bool) -> list[Patches]:
    """Return every way to compute first layers in patches, the least work first."""
    found = []
    for number, chain in enumerate(chains(graph)):
        outside = chain.source.is_graph_input() and not io_in_arena
        given = 0 if outside else _bytes(chain.source, shape_of(chain.source), align)
        for count in range(1, len(chain.links) + 1):
            part = chain.until(count)
            if all(link.window is None for link in part.links):
                continue
            if count < len(chain.links) and chain.links[count].window is None:
                continue  # what works element by element belongs to the layer before
            _, channels, rows, columns = shape_of(part.result)
            stack = _bytes(part.result, (channels, rows, columns), align)
            for grid in _grids(rows, columns):
                parts = parts_of(part, (rows // grid[0], columns // grid[1]))
                arena = max(given + stack + _peak(part, parts, align), 2 * stack)
                work = _work(part, parts, grid)
                whole = sum(_macs(link) * math.prod(shape_of(link.node.outputs[0]))
                            for link in part.links)  # fmt: skip
                found.append(Patches(number, count, grid, work, whole, arena))
    return sorted(found, key=lambda p: (p.work - p.whole, p.arena, p.chain, p.links, p.grid))


def use_patches(model: ir.Model, patches: Patches) -> None:
    """Rewrite ``model`` in place."""
    graph = model.graph
    chain = list(chains(graph))[patches.chain].until(patches.links)
    _, channels, rows, columns = shape_of(chain.result)
    down, across = patches.grid
    size = rows // down, columns // across
    name = str(chain.result.name)
    body = _body(chain, parts_of(chain, size), patches.grid, name)
    trips = add_constant(graph, np.array(patches.count, np.int64), f"{name}/patches")
    loop = ir.node("Loop", [trips, None], {"body": body})
    element = shape_of(body.outputs[1])
    describe(loop.outputs[0], f"{name}/stack", chain.result, [patches.count, *element])
    loop.name = f"{name}/loop"
    made = [loop]

    def then(op: str, shape: Sequence[int], **attributes: Any) -> None:
        inputs = [made[-1].outputs[0]]
        if op == "Reshape":
            inputs.append(add_constant(graph, np.array(shape, np.int64), f"{name}/shape"))
        node = ir.node(op, inputs, attributes)
        node.name = f"{name}/{op.lower()}{len(made)}"
        describe(node.outputs[0], node.name, chain.result, shape)
        made.append(node)

    then("Reshape", [down, across, channels, *size])
    then("Transpose", [channels, down, size[0], across, size[1]], perm=[2, 0, 3, 1, 4])
    then("Reshape", [1, channels, rows, columns])
    last = chain.links[-1].node
    graph.insert_after(last, made)
    final = made[-1].outputs[0]
    ir.convenience.replace_all_uses_with(chain.result, final, replace_graph_outputs=True)
    for node in reversed(chain.nodes):
        graph.remove(node, safe=True)
    chain.result.name, final.name = f"{name}/whole", name
    model.opset_imports[DOMAIN] = 1


def _body(chain: Chain, parts: Sequence[Part], grid: tuple[int, int], name: str) -> ir.Graph:
    """Return the graph of one iteration: number and condition in, condition and patch out."""
    number = ir.Value(name="patch", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    more = ir.Value(name="more", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    nodes: list[ir.Node] = []

    def add(node: ir.Node, like: ir.Value, shape: Sequence[int], what: str) -> ir.Value:
        node.name = f"{name}/{what}"
        describe(node.outputs[0], node.name, like, shape)
        nodes.append(node)
        return node.outputs[0]

    def of_patch(op: str, value: ir.Value, part: Part, fill: float, **more_: Any) -> ir.Node:
        about = {
            "step": list(part.step), "origin": list(part.origin), "sizes": list(part.whole),
            "columns": grid[1], "fill": float(fill), **more_,
        }  # fmt: skip
        return ir.node(op, [value, number], about, domain=DOMAIN)

    shape = shape_of(chain.source)
    last = chain.transposition is not None
    first = chain.links[0].window
    extract = of_patch(
        "Extract", chain.source, parts[0], first.fill if first else 0.0, channels_last=int(last)
    )
    channels = shape[3] if last else shape[1]
    value = add(extract, chain.source, [1, channels, *parts[0].size], "extract")
    for index, link in enumerate(chain.links):
        part, after = parts[index], parts[index + 1]
        if index and link.window is not None and part.leaves(grid):
            border = of_patch("Border", value, part, link.window.fill)
            value = add(border, value, shape_of(value), f"border{index}")
        node = link.node
        attributes = dict(node.attributes)
        if "pads" in attributes:
            pads = [int(n) for n in attributes["pads"].as_ints()]
            inside = [0 if grid[axis % 2] > 1 else n for axis, n in enumerate(pads)]
            attributes["pads"] = ir.AttrInt64s("pads", inside)
        made = ir.node(node.op_type, [value, *node.inputs[1:]], domain=node.domain)
        made.attributes.update(attributes)
        output = node.outputs[0]
        value = add(made, output, [1, shape_of(output)[1], *after.size], f"layer{index}")
        made.name = node.name or str(output.name)
    return ir.Graph([number, more], [more, value], nodes=nodes, name=f"{name}/body")


def _grids(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    for down in _divisors(rows):
        for across in _divisors(columns):
            if 1 < down * across <= MOST_PATCHES:
                yield down, across


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _bytes(value: ir.Value, shape: Sequence[int], align: int) -> int:
    bits = 32 if value.dtype is None else value.dtype.bitwidth
    return -(-math.prod(shape) * -(-bits // 8) // align) * align


def _peak(chain: Chain, parts: Sequence[Part], align: int) -> int:
    """Estimate the bytes that patches take at most; the last one is written to its place."""
    before = ir.Value(type=chain.source.type)
    _, *shape = shape_of(chain.source)
    channels = shape[-1] if chain.transposition is not None else shape[0]
    size = _bytes(before, (channels, *parts[0].size), align)
    most = size
    for number, link in enumerate(chain.links):
        output = link.node.outputs[0]
        made = _bytes(output, (shape_of(output)[1], *parts[number + 1].size), align)
        if number == len(chain.links) - 1:
            made = 0
        alone = link.window is None or _by_channel(link)
        most = max(most, max(size, made) if alone else size + made)
        size = made
    return most


def _by_channel(link: Link) -> bool:
    """Whether a layer may write over its input, as hand-written kernels do channel by channel."""
    node = link.node
    return node.op_type == "Conv" and groups_of(node) == shape_of(node.inputs[0])[1] > 1


def _macs(link: Link) -> int:
    """Return the multiply-accumulates of an element of the result."""
    node = link.node
    if node.op_type == "Conv":
        return math.prod(shape_of(node.inputs[1])[1:])
    return math.prod(link.window.kernel) if link.window is not None else 1


def _work(chain: Chain, parts: Sequence[Part], grid: tuple[int, int]) -> int:
    """Return the multiply-accumulates of all patches, borders included."""
    total = 0
    for number, link in enumerate(chain.links):
        channels = shape_of(link.node.outputs[0])[1]
        total += _macs(link) * channels * math.prod(parts[number + 1].size)
        if number and link.window is not None and parts[number].leaves(grid):
            shape = shape_of(link.node.inputs[0])
            total += _BORDER_COST * shape[1] * math.prod(parts[number].size)
    return total * math.prod(grid)
