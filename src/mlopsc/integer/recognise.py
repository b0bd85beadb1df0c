"""Finds the parts of a graph that integers can compute: clusters.

A cluster is a ``QuantizeLinear`` node, the operator it follows, activations between them, and the
``DequantizeLinear`` nodes in front. What is between has no other user. Its operator is taken apart
by a matcher (``matchers``), which gives what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from mlopsc.integer.arithmetic import Unfit
from mlopsc.integer.quantisation import (
    Constant,
    Quantisation,
    activation,
    array_of,
    constant,
)
from mlopsc.integer.recipe import Recipe, shape_of

# Takes the activations as signed integers, returns the result as signed integers.
Emit = Callable[[Recipe, Sequence[ir.Value]], ir.Value]


@dataclass(frozen=True)
class Activation:
    """A quantised tensor that a cluster reads."""

    value: ir.Value
    quantisation: Quantisation
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Cluster:
    """What integers compute instead.

    Attributes:
        output: The tensor of integers it computes, in the graph.
        quantisation: Of the output.
        sources: The activations it reads.
        nodes: All of its nodes, from the first ``DequantizeLinear`` to ``QuantizeLinear``.
        main: The node that names it.
        emit: Writes it.
    """

    output: ir.Value
    quantisation: Quantisation
    sources: tuple[Activation, ...]
    nodes: tuple[ir.Node, ...]
    main: ir.Node
    emit: Emit


@dataclass
class Region:
    """The way back from a ``QuantizeLinear``, as far as it has been gone.

    Attributes:
        quantisation: Of the result.
        low: Least integer of the result, after activations.
        high: Greatest integer.
        shape: Of the result.
        nodes: Nodes passed, the last first.
        sources: Activations found.
        main: The operator that gives the layer its name, if not the last one.
    """

    quantisation: Quantisation
    low: int
    high: int
    shape: tuple[int, ...]
    nodes: list[ir.Node] = field(default_factory=list)
    sources: list[Activation] = field(default_factory=list)
    main: ir.Node | None = None

    def enter(self, value: ir.Value | None) -> ir.Node:
        """Return the node that computes ``value``, which nothing outside may use.

        Raises:
            Unfit: There is none, or something else uses the value.
        """
        node = None if value is None else value.producer()
        if node is None or value is None:
            raise Unfit("it begins with a tensor that is not quantised")
        if node.domain:
            raise Unfit(f"there is no integer form of {node.domain}::{node.op_type}")
        inside = {id(n) for n in self.nodes}
        if value.is_graph_output() or any(id(user) not in inside for user, _ in value.uses()):
            raise Unfit(f"'{value.name}' is used elsewhere too")
        if id(node) not in inside:
            self.nodes.append(node)
        return node

    def activation(self, value: ir.Value | None, *, constant: bool = False) -> Activation:
        """Return the quantised activation behind ``value``.

        Args:
            value: An operand.
            constant: Whether it may be a constant of several elements with one scale, too.

        Raises:
            Unfit: It is none.
        """
        node = None if value is None else value.producer()
        if node is None or node.domain or node.op_type != "DequantizeLinear":
            raise Unfit("an operand is not quantised")
        source = node.inputs[0]
        found = activation(node, source.dtype if source is not None else None)
        shape = None if source is None else shape_of(source)
        if source is None or found is None or shape is None:
            raise Unfit("an operand's quantisation has no integer form")
        if source.const_value is not None and not (constant and math.prod(shape) > 1):
            raise Unfit("an operand's quantisation has no integer form")
        if found.bits != self.quantisation.bits:
            raise Unfit("operands and result have different widths")
        if node not in self.nodes:
            self.nodes.append(node)
        made = Activation(source, found, shape)
        self.sources.append(made)
        return made

    def pair(self, node: ir.Node) -> tuple[Activation, Activation]:
        """Return the operands of a binary operator, one of which may be a constant.

        Raises:
            Unfit: One is not quantised, or both are constants.
        """
        a, b = (self.activation(value, constant=True) for value in node.inputs)
        if a.value.const_value is not None and b.value.const_value is not None:
            raise Unfit("it has no operand but constants")
        return a, b

    def constant(self, value: ir.Value | None) -> Constant | None:
        """Return the quantised constant behind ``value``, if it is one."""
        node = None if value is None else value.producer()
        if node is None or node.domain or node.op_type != "DequantizeLinear":
            return None
        found = constant(node)
        if found is not None and node not in self.nodes:
            self.nodes.append(node)
        return found

    def narrow(self, least: float | None, greatest: float | None) -> None:
        """Take an activation's bounds into the range of the result."""
        if least is not None:
            self.low = max(self.low, self.quantisation.quantize(least))
        if greatest is not None:
            self.high = min(self.high, self.quantisation.quantize(greatest))
        if self.low > self.high:
            raise Unfit("an activation leaves nothing of the range")

    @property
    def clamped(self) -> bool:
        """Whether an activation narrows the range."""
        return (self.low, self.high) != self.quantisation.range


# Takes the region and its operator; gives what writes it, or raises Unfit.
Matcher = Callable[[Region, ir.Node], Emit]


def find_clusters(graph: ir.Graph) -> list[Cluster]:
    """Return the clusters of ``graph`` in order; bodies of its nodes have none."""
    found = (_match(node) for node in graph if _is(node, "QuantizeLinear"))
    return [cluster for cluster in found if cluster is not None]


def _match(node: ir.Node) -> Cluster | None:
    from mlopsc.integer.matchers import MATCHERS, elementwise

    output = node.outputs[0]
    quantisation, shape = activation(node, output.dtype), shape_of(output)
    if quantisation is None or shape is None or 0 in shape:
        return None

    def region() -> tuple[Region, ir.Node]:
        made = Region(quantisation, *quantisation.range, shape, [node])
        return made, _skip_activations(made, node.inputs[0])

    try:
        started, main = region()
        matcher = MATCHERS.get(main.op_type, elementwise)
        try:
            emit = matcher(started, main)
        except Unfit:
            if matcher is elementwise:
                raise
            started, main = region()
            emit = elementwise(started, main)  # an operand may be a number
    except Unfit:
        return None
    return Cluster(
        output,
        quantisation,
        tuple(started.sources),
        tuple(reversed(started.nodes)),
        started.main or main,
        emit,
    )


def _skip_activations(region: Region, value: ir.Value | None) -> ir.Node:
    """Go back over what only narrows the range and return the operator before."""
    while True:
        producer = None if value is None else value.producer()
        if producer is not None and _is(producer, "DequantizeLinear"):
            return producer  # nothing but a change of scale
        node = region.enter(value)
        if _is(node, "Relu"):
            region.narrow(0.0, None)
        elif _is(node, "Clip"):
            least, greatest = (_bound(node, index) for index in (1, 2))
            region.narrow(least, greatest)
        else:
            return node
        value = node.inputs[0]


def _bound(node: ir.Node, index: int) -> float | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    array = array_of(value)
    if array is None or array.size != 1:
        raise Unfit("a bound is computed")
    return float(array.item())


def _is(node: ir.Node, op: str) -> bool:
    return not node.domain and node.op_type == op


def quantised_nodes(clusters: Iterable[Cluster]) -> set[ir.Node]:
    """Return the Q and DQ nodes of ``clusters``."""
    return {
        node
        for cluster in clusters
        for node in cluster.nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
