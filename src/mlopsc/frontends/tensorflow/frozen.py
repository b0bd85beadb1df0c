"""Reads frozen graphs: files with one ``GraphDef`` that holds its weights as constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array
from mlopsc.frontends.tensorflow.graph import (
    FrozenGraph,
    Tensor,
    dtype_name,
    node_of,
    prune,
    readable,
    sizes_of,
)
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.frontends.tensorflow.operators import check_operators

_VARIABLES: Final = frozenset({"VarHandleOp", "Variable", "VariableV2"})
_NO_RESULTS: Final = frozenset(
    {"Assert", "Const", "NoOp", "Placeholder", "PlaceholderWithDefault", "Print"}
)


def read(path: Path, outputs: str | None) -> FrozenGraph:
    """Read a frozen graph.

    Args:
        path: The file.
        outputs: Names of the nodes that are the outputs, with commas; those that nothing takes by
            default.

    Raises:
        SourceError: It is damaged, not frozen, or has no such outputs.
        UnsafeSourceError: It does more than compute.
    """
    tf = import_tensorflow()
    from google.protobuf.message import DecodeError

    source = f"'{path}'"
    try:
        graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    except (DecodeError, OSError, ValueError) as error:
        raise SourceError(f"{source} cannot be read as a GraphDef: {str(error)[:200]}") from error
    ends = _ends(graph_def, outputs, source)
    graph_def = prune(graph_def, ends)
    variables = sorted(node.name for node in graph_def.node if node.op in _VARIABLES)
    if variables:
        raise SourceError(
            f"{source} is not frozen: it holds {len(variables)} variables, such as "
            f"'{variables[0]}', without their values",
            hint="freeze it with its checkpoint, or export a SavedModel",
        )
    check_operators(graph_def, source)
    try:
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{source} is damaged: {text[:300]}") from error
    starts = [node.name for node in graph_def.node if node.op == "Placeholder"]
    if not starts:
        raise SourceError(f"{source} has no Placeholder, so it takes no inputs")
    return FrozenGraph(
        graph_def,
        tuple(_tensor(graph, name, 0) for name in starts),
        tuple(
            _tensor(graph, name, number)
            for name in ends
            for number in range(len(graph.get_operation_by_name(name).outputs))
        ),
    )


def _ends(graph_def: Any, outputs: str | None, source: str) -> list[str]:
    names = [node.name for node in graph_def.node]
    if outputs is not None:
        wanted = [node_of(name.strip()) for name in outputs.split(",")]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise SourceError(f"{source} has no node '{unknown[0]}'; it has {len(names)} others")
        return wanted
    taken = {node_of(name) for node in graph_def.node for name in node.input}
    ends = [n.name for n in graph_def.node if n.name not in taken and n.op not in _NO_RESULTS]
    if not ends:
        raise SourceError(f"{source} computes nothing: it has no node that others do not take")
    return ends


def _tensor(graph: Any, node: str, number: int) -> Tensor:
    tensor = graph.get_tensor_by_name(f"{node}:{number}")
    name = readable(node) if number == 0 else f"{readable(node)}_{number}"
    return Tensor(name, tensor.name, dtype_name(tensor.dtype), sizes_of(tensor.shape))


class Running:
    """A frozen graph in a session."""

    def __init__(self, frozen: FrozenGraph) -> None:
        """Load the graph."""
        tf = import_tensorflow()
        self._frozen = frozen
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            tf.graph_util.import_graph_def(frozen.graph_def, name="")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs."""
        feed = {tensor.place: inputs[tensor.name] for tensor in self._frozen.inputs}
        outputs = self._frozen.outputs
        values = self._session.run([tensor.place for tensor in outputs], feed)
        return {tensor.name: value for tensor, value in zip(outputs, values, strict=True)}
