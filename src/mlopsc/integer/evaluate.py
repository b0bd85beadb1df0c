"""Runs a quantised model as its integers are defined, and holds every layer against a runtime.

Takes a graph in normal form. Integer operators are computed in NumPy, what lies between them by the
reference runtime. A layer is checked by giving the runtime the same integers: its own nodes,
``DequantizeLinear`` to ``QuantizeLinear``, run one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.bundle import detach, load_graph
from mlopsc.integer.convert import use_integers
from mlopsc.integer.model import OPERATORS
from mlopsc.integer.quantisation import ACTIVATIONS
from mlopsc.integer.recipe import DOMAIN, shape_of
from mlopsc.integer.recognise import Cluster, find_clusters
from mlopsc.integer.unfuse import unfuse
from mlopsc.reference import Reference
from mlopsc.schema.bundle import Arithmetic
from mlopsc.schema.graph import StageGraph

Array = np.ndarray[Any, Any]
_BIT_CAST: Final = "BitCast"  # of ONNX 26, which no runtime has: it is computed here, too
SEMANTICS: Final = "mlopsc integer semantics 1"  # docs/integer-semantics.md


@dataclass(frozen=True)
class LayerCheck:
    """One layer against the reference runtime, given the same integers.

    Attributes:
        layer: Name of its node.
        op_type: Operator.
        largest: Largest difference in steps.
        differing: Share of elements that differ.
    """

    layer: str
    op_type: str
    largest: int
    differing: float


class IntegerReference:
    """One stage's graph, with its quantised parts computed in integers.

    Attributes:
        clusters: What integers compute.
        whole: Whether nothing in floating point lies between two of them.
    """

    def __init__(self, stage: StageGraph) -> None:
        """Convert the graph and open the parts that the reference runtime computes."""
        self._stage = stage
        model = load_graph(stage)
        conversion = use_integers(model)
        self.clusters, self._computed = conversion.clusters, conversion.computed
        read = {str(s.value.name) for cluster in self.clusters for s in cluster.sources}
        read |= {str(cluster.output.name) for cluster in self.clusters}
        read = {self._computed.get(name, name) for name in read}  # layers are checked on these
        self._parts = list(_parts(model, read)) if self.clusters else []
        self.whole = not _floats_between(model.graph)
        self.outputs = [str(v.name) for v in model.graph.outputs]
        self._constants = {
            str(name): np.asarray(v.const_value.numpy())
            for name, v in model.graph.initializers.items()
            if v.const_value is not None and any(user.domain == DOMAIN for user, _ in v.uses())
        }

    def values(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every tensor that is computed on ``inputs``, by name."""
        known: dict[str, Array] = {**self._constants, **inputs}
        for part in self._parts:
            if isinstance(part, ir.Node):
                operands = [known[str(v.name)] for v in part.inputs if v is not None]
                attributes = {
                    a.name: list(a.value) if isinstance(a.value, tuple) else a.value
                    for a in part.attributes.values()
                }
                made = OPERATORS[part.op_type](operands, attributes)
                shape = shape_of(part.outputs[0]) or ()
                known[str(part.outputs[0].name)] = made.reshape(shape)
            else:
                feed = {name: known[name] for name in part.inputs}
                known.update(part.reference.run(feed))
        return known

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs on ``inputs``."""
        known = self.values(inputs)
        return {name: known[name] for name in self.outputs}

    def check_layers(self, inputs: Sequence[Mapping[str, Array]]) -> list[LayerCheck]:
        """Compare every layer with the reference runtime on what it is given here.

        Raises:
            SourceError: The runtime cannot run a layer.
        """
        original = load_graph(self._stage)
        unfuse(original.graph)
        found = [self.values(given) for given in inputs]
        return [self._check(original, cluster, found) for cluster in find_clusters(original.graph)]

    def _check(
        self, original: ir.Model, cluster: Cluster, found: Sequence[dict[str, Array]]
    ) -> LayerCheck:
        """Run the nodes of one cluster on the integers that its layer was given."""
        wanted = set(cluster.nodes)
        ordered = [node for node in original.graph if node in wanted]
        inside = {o for node in ordered for o in node.outputs}
        model, inputs = _extract(original, ordered, [cluster.output], inside)
        reference = Reference([detach(model, "model")], literal=True)
        flipped = {str(a.value.name): a.quantisation.flipped for a in cluster.sources}
        name = str(cluster.output.name)
        largest, differing, count = 0, 0, 0
        for known in found:
            feed = {i: self._tensor(known, i, flipped=flipped[i]) for i in inputs}
            expected = np.asarray(reference.run(feed)[name]).astype(np.int64)
            got = self._tensor(known, name, flipped=cluster.quantisation.flipped)
            distance = np.abs(got.astype(np.int64) - expected)
            largest = max(largest, int(distance.max(initial=0)))
            differing += int(np.count_nonzero(distance))
            count += distance.size
        return LayerCheck(
            layer=str(cluster.main.name or name),
            op_type=cluster.main.op_type,
            largest=largest,
            differing=differing / max(count, 1),
        )

    def _tensor(self, known: Mapping[str, Array], name: str, *, flipped: bool) -> Array:
        """Return a tensor of the original graph out of what was computed."""
        computed = self._computed.get(name, name)
        array = known[computed]
        if not flipped or array.dtype != np.int8:
            return array
        return np.asarray(array.view(np.uint8) ^ np.uint8(0x80))


class ExactReference:
    """All stages of a bundle; what is quantised is computed as its integers are defined.

    Attributes:
        version: Names and versions of what answers.
        arithmetic: How the model is computed.
        stages: Those with quantised parts.
    """

    def __init__(self, stages: Sequence[StageGraph]) -> None:
        """Open the graphs.

        Raises:
            SourceError: The reference runtime refuses one of them.
        """
        self._runs: list[IntegerReference | Reference] = []
        versions: list[str] = []
        for stage in stages:
            quantised = IntegerReference(stage)
            if quantised.clusters:
                self._runs.append(quantised)
                versions.append(SEMANTICS)
            else:
                plain = Reference([stage])
                self._runs.append(plain)
                versions.append(plain.version)
        self.stages = [run for run in self._runs if isinstance(run, IntegerReference)]
        self.version = " + ".join(dict.fromkeys(versions))
        whole = all(run.whole for run in self.stages)
        self.arithmetic: Arithmetic = (
            "float" if not self.stages else "integer" if whole else "mixed"
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run all stages on raw inputs and return the outputs of the last by name."""
        values = dict(inputs)
        for run in self._runs:
            values = run.run(values)
        return values

    def check_layers(self, inputs: Sequence[Mapping[str, Array]]) -> list[LayerCheck]:
        """Compare every layer of all stages with the reference runtime."""
        found: list[LayerCheck] = []
        values = [dict(given) for given in inputs]
        for run in self._runs:
            if isinstance(run, IntegerReference):
                found += run.check_layers(values)
            if run is not self._runs[-1]:
                values = [run.run(given) for given in values]
        return found


def _floats_between(graph: ir.Graph) -> bool:
    """Whether floats lie between integer operators, or quantised inputs and outputs."""
    behind: set[ir.Value] = set()  # what depends on an integer operator
    floats: set[ir.Value] = set()  # what depends on a float among these
    loose: set[ir.Value] = {v for v in graph.inputs if v.dtype in ACTIVATIONS}
    islands: set[ir.Value] = set()  # floats of quantised inputs, behind no integer operator
    for node in graph:
        taken = {v for v in node.inputs if v is not None}
        if node.domain == DOMAIN:
            if taken & floats:
                return True
            behind.update(node.outputs)
            continue
        if taken & loose:
            loose.update(node.outputs)
            if taken & islands or any(_is_float(o) for o in node.outputs):
                islands.update(node.outputs)
        if taken & behind:
            behind.update(node.outputs)
            if taken & floats or any(_is_float(o) for o in node.outputs):
                floats.update(node.outputs)
    return any(v.dtype in ACTIVATIONS and v in floats | islands for v in graph.outputs)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


@dataclass(frozen=True)
class _Part:
    """Nodes that the reference runtime computes."""

    inputs: tuple[str, ...]
    reference: Reference


def _parts(model: ir.Model, read: Collection[str]) -> Iterable[ir.Node | _Part]:
    """Yield integer nodes, and the runs of other nodes between them, which give ``read``, too."""
    run: list[ir.Node] = []
    nodes = list(model.graph)
    for node in [*nodes, None]:
        if node is not None and node.domain != DOMAIN and node.op_type != _BIT_CAST:
            run.append(node)
            continue
        if run:
            yield _part(model, run, read)
            run = []
        if node is not None:
            yield node


def _part(model: ir.Model, nodes: Sequence[ir.Node], read: Collection[str]) -> _Part:
    inside = {o for node in nodes for o in node.outputs}
    outputs = [
        o
        for node in nodes
        for o in node.outputs
        if o.is_graph_output() or o.name in read or any(user not in nodes for user, _ in o.uses())
    ]
    extracted, inputs = _extract(model, nodes, outputs, inside)
    return _Part(inputs, Reference([detach(extracted, "model")]))


def _extract(
    model: ir.Model, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value], inside: set[ir.Value]
) -> tuple[ir.Model, tuple[str, ...]]:
    """Return ``nodes`` as a model of their own, and what it takes."""
    clones: dict[ir.Value, ir.Value] = {}
    inputs: list[ir.Value] = []
    initializers: list[ir.Value] = []
    copies: list[ir.Node] = []
    for node in nodes:
        for value in node.inputs:
            if value is None or value in clones or value in inside:
                continue
            clone = ir.Value(
                name=value.name, const_value=value.const_value, shape=value.shape, type=value.type
            )
            clones[value] = clone
            (inputs if value.const_value is None else initializers).append(clone)
        copy = ir.Node(
            node.domain, node.op_type,
            [None if v is None else clones[v] for v in node.inputs],
            list(node.attributes.values()), num_outputs=len(node.outputs), name=node.name,
        )  # fmt: skip
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            clones[old] = new
        copies.append(copy)
    imports = {k: v for k, v in model.graph.opset_imports.items() if k != DOMAIN}
    graph = ir.Graph(
        inputs, [clones[v] for v in outputs], nodes=copies, initializers=initializers,
        opset_imports=imports, name="part",
    )  # fmt: skip
    made = ir.Model(graph, ir_version=min(model.ir_version or 10, 10))
    return made, tuple(str(v.name) for v in inputs)
