"""Writes clusters as operators on integers.

Takes a graph in normal form; gives it without ``QuantizeLinear`` and ``DequantizeLinear`` where
these stand around something that integers compute. Tensors of uint8 between clusters become int8
with the top bit inverted; where anything else reads one, it is inverted back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.quantisation import Array, array_of
from mlopsc.integer.recipe import DOMAIN, Recipe, shape_of
from mlopsc.integer.recognise import Activation, Cluster, find_clusters, quantised_nodes
from mlopsc.integer.unfuse import unfuse

# What moves elements without looking at them, also where no Q and DQ stand around it.
_MOVES: Final = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class Conversion:
    """What became of a graph.

    Attributes:
        clusters: Those it had.
        computed: By name of a quantised tensor of the graph as it was, the name of the tensor of
            signed integers that is computed instead.
    """

    clusters: tuple[Cluster, ...]
    computed: dict[str, str]


def use_integers(model: ir.Model) -> Conversion:
    """Rewrite the main graph in place."""
    parts = unfuse(model.graph)
    clusters = find_clusters(model.graph)
    matched = quantised_nodes(clusters)
    for part in reversed(parts):
        if part.nodes[-1] not in matched:
            part.undo()
    if not clusters:
        return Conversion((), {})
    converter = _Converter(model.graph, clusters, matched)
    names = {value: str(value.name) for node in model.graph for value in node.outputs}
    inputs = (*model.graph.inputs, *model.graph.initializers.values())
    names |= {value: str(value.name) for value in inputs}
    converter.run()
    model.opset_imports[DOMAIN] = 1
    computed = {names[value]: str(made.name) for value, made in converter.signed.items()}
    return Conversion(tuple(clusters), computed)


@dataclass
class _Converter:
    graph: ir.Graph
    clusters: list[Cluster]
    quantised: set[ir.Node]
    signed: dict[ir.Value, ir.Value] = field(default_factory=dict)
    made: set[ir.Node] = field(default_factory=set)

    def run(self) -> None:
        by_node = {cluster.output.producer(): cluster for cluster in self.clusters}
        for node in list(self.graph):
            if node in by_node:
                self.write(by_node[node], node)
            elif node.op_type in _MOVES and not node.domain and node.inputs[0] in self.signed:
                self.move(node)
        for cluster in self.clusters:
            self.replace(cluster.output)
        self.sweep()

    def write(self, cluster: Cluster, before: ir.Node) -> None:
        recipe = Recipe(str(cluster.output.name))
        inputs = [self.read(source, before) for source in cluster.sources]
        result = cluster.emit(recipe, inputs)
        for constant in recipe.constants:
            if constant.name not in self.graph.initializers:
                self.graph.register_initializer(constant)
        name = cluster.main.name or cluster.main.outputs[0].name
        for number, node in enumerate(recipe.nodes):
            node.name = name if number == len(recipe.nodes) - 1 else f"{name}/{number}"
            self.graph.insert_before(before, node)
        self.made.update(recipe.nodes)
        self.signed[cluster.output] = result

    def read(self, source: Activation, before: ir.Node) -> ir.Value:
        """Return the tensor that is computed where a cluster reads ``source``."""
        value = source.value
        if value not in self.signed:
            if not source.quantisation.flipped:
                return value
            given = array_of(value)
            self.signed[value] = (
                self.flip(value, before, ir.DataType.INT8)
                if given is None
                else self.flipped_constant(value, given)
            )
        return self.signed[value]

    def flipped_constant(self, value: ir.Value, given: Array) -> ir.Value:
        """Return constant uint8 elements as int8 with the top bit inverted."""
        recipe = Recipe(str(value.name))
        made = recipe.constant(np.asarray(given ^ np.uint8(0x80)).view(np.int8), "int8")
        self.graph.register_initializer(made)
        return made

    def flip(self, value: ir.Value, before: ir.Node, target: ir.DataType) -> ir.Value:
        """Return ``value`` with the top bit inverted, as ``target``."""
        recipe = Recipe(f"{value.name}/{target.name.lower()}")
        flipped = recipe.node("Flip", [value], target, shape_of(value) or ())
        self.graph.insert_before(before, recipe.nodes)
        self.made.update(recipe.nodes)
        return flipped

    def move(self, node: ir.Node) -> None:
        source = node.inputs[0]
        output = node.outputs[0]
        if source is None or source not in self.signed or len(node.outputs) != 1:
            return
        recipe = Recipe(str(output.name) + "/moved")
        attributes = {name: a.value for name, a in node.attributes.items() if a.value is not None}
        inputs = [self.signed[source], *node.inputs[1:]]
        dtype = self.signed[source].dtype or ir.DataType.INT8
        shape = shape_of(output) or ()
        moved = recipe.node(node.op_type, inputs, dtype, shape, attributes, domain="")
        self.graph.insert_before(node, recipe.nodes[0])
        recipe.nodes[0].name = node.name
        self.made.update(recipe.nodes)
        self.signed[output] = moved

    def replace(self, output: ir.Value) -> None:
        """Let everything else that reads ``output`` read what is computed instead."""
        result = self.signed[output]
        node = output.producer()
        if node is None:
            return
        others = [(user, index) for user, index in output.uses() if user not in self.made]
        others = [(user, i) for user, i in others if not self.dead(user)]
        final = output.is_graph_output()
        if not others and not final:
            return
        plain = result if output.dtype == result.dtype else self.flip(
            result, node, ir.DataType.UINT8
        )  # fmt: skip
        for user, index in others:
            user.replace_input_with(index, plain)
        if final:
            name = output.name
            if plain.producer() is None or plain in self.graph.outputs:  # it is an input
                same = ir.node("Identity", [plain])
                same.outputs[0].type, same.outputs[0].shape = plain.type, plain.shape
                self.graph.insert_before(node, same)
                plain = same.outputs[0]
            output.name, plain.name = f"{name}/quantised", name
            for index, value in enumerate(self.graph.outputs):
                if value is output:
                    self.graph.outputs[index] = plain

    def dead(self, user: ir.Node) -> bool:
        """Whether ``user`` only computes what clusters compute now."""
        if user.op_type == "DequantizeLinear" and not user.domain:
            return user in self.quantised
        moved = user.outputs[0]
        return (
            user.op_type in _MOVES and moved in self.signed and not moved.is_graph_output()
            and all(self.dead(u) for u, _ in moved.uses() if u not in self.made)
        )  # fmt: skip

    def sweep(self) -> None:
        """Remove what nothing reads any more, with its constants."""
        for node in reversed(list(self.graph)):
            if all(not o.uses() and not o.is_graph_output() for o in node.outputs):
                self.graph.remove(node, safe=True)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                self.graph.initializers.pop(name)
