"""A TensorFlow graph without variables, and the names that users know its tensors by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlopsc.errors import OpenShapeError, SourceError

BATCH = "batch"


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Attributes:
        name: What users call it.
        place: Where it is in the graph: ``node:number``.
        dtype: NumPy's name of the element type, or ``string`` and others that NumPy lacks.
        shape: Sizes, None where open; None altogether if not even the rank is known.
    """

    name: str
    place: str
    dtype: str
    shape: tuple[int | None, ...] | None = None

    def __str__(self) -> str:
        """As in messages: name, type, shape."""
        if self.shape is None:
            return f"{self.name}: {self.dtype} of unknown rank"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"

    @property
    def opens(self) -> bool:
        """Whether the first axis is open: the batch."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None

    def bound(self, bind: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape with every open dimension bound; an open first axis is 1 by default.

        Raises:
            OpenShapeError: One stays open.
        """
        if self.shape is None:
            raise OpenShapeError(
                f"the input '{self.name}' has no rank; expected a shape",
                hint="export the model with an input signature that has shapes",
            )
        sizes: list[int] = []
        for axis, size in enumerate(self.shape):
            place = f"{self.name}:{axis}"
            if size is None:
                size = bind.get(place, bind.get(BATCH) if axis == 0 else None)
                size = 1 if size is None and axis == 0 else size
            if size is None:
                raise OpenShapeError(
                    f"the input '{self}' has an open dimension",
                    hint=f"choose its size: --bind {place}=N",
                )
            sizes.append(size)
        return tuple(sizes)


@dataclass(frozen=True)
class FrozenGraph:
    """A graph of constants and operators.

    Attributes:
        graph_def: TensorFlow's ``GraphDef``.
        inputs: In the order of the signature.
        outputs: In the order of the signature.
    """

    graph_def: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def dtype_name(dtype: Any) -> str:
    """Return NumPy's name of a ``tf.DType``."""
    return str(dtype.base_dtype.name)


def sizes_of(shape: Any) -> tuple[int | None, ...] | None:
    """Return the sizes of a ``tf.TensorShape``."""
    return None if shape.rank is None else tuple(shape.as_list())


def node_of(place: str) -> str:
    """Return the node of a tensor or of a control input."""
    return place.removeprefix("^").partition(":")[0]


def readable(name: str) -> str:
    """Return a name of a node as the name of an input or output."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name).strip("_") or "value"


def reachable(graph_def: Any, roots: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the names of the nodes that ``roots`` need, and of the functions that those call.

    Raises:
        SourceError: A node is not there.
    """
    nodes = {node.name: node for node in graph_def.node}
    functions = {f.signature.name: f for f in graph_def.library.function}
    wanted = {node_of(root) for root in roots}
    waiting = sorted(wanted)
    called: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in nodes:
            raise SourceError(f"the graph has no node '{name}', which something takes")
        called |= functions_of(nodes[name])
        for source in map(node_of, nodes[name].input):
            if source not in wanted:
                wanted.add(source)
                waiting.append(source)
    return wanted, _closure(functions, called)


def _closure(functions: Mapping[str, Any], called: set[str]) -> set[str]:
    waiting = sorted(called)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in functions:
            continue
        found.add(name)
        for node in functions[name].node_def:
            waiting.extend(functions_of(node))
    return found


def functions_of(node: Any) -> set[str]:
    """Return the names of the functions that a node calls."""
    found = set()
    for attribute in node.attr.values():
        kind = attribute.WhichOneof("value")
        if kind == "func":
            found.add(attribute.func.name)
        elif kind == "list":
            found |= {function.name for function in attribute.list.func}
    return found


def prune(graph_def: Any, roots: Sequence[str]) -> Any:
    """Return what ``roots`` need of a ``GraphDef``, functions included."""
    nodes, functions = reachable(graph_def, roots)
    pruned = type(graph_def)()
    pruned.versions.CopyFrom(graph_def.versions)
    pruned.library.function.extend(
        f for f in graph_def.library.function if f.signature.name in functions
    )
    pruned.library.gradient.extend(
        g for g in graph_def.library.gradient if g.function_name in functions
    )
    pruned.node.extend(node for node in graph_def.node if node.name in nodes)
    return pruned


def all_nodes(graph_def: Any) -> Iterator[Any]:
    """Yield the nodes of a ``GraphDef`` and of its functions."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
