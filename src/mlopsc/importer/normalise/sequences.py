"""Pass *EliminateSequences*: replaces sequences and optionals by the tensors they hold.

Requires: *PrepareBodies*, inferred shapes. Ensures: where the length of a sequence, or whether an
optional holds something, is known at import, no node handles it any more; an output that is a
sequence becomes one output per element, ``name_0``, ``name_1``, ... The branches of an ``If`` that
return sequences of one length return their elements instead. ``Loop`` over sequences is left to
*UnrollLoops*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import onnx_ir as ir

from mlopsc.bodies import bodies
from mlopsc.errors import SourceError
from mlopsc.importer.normalise.constants import constant_of, scalar_of
from mlopsc.importer.normalise.subgraphs import make_names_unique, replace
from mlopsc.importer.normalise.write import Writer


@dataclass(frozen=True)
class Items:
    """A sequence whose elements are known."""

    values: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Maybe:
    """An optional of which it is known what it holds, if anything."""

    content: ir.Value | Items | None


Static = Items | Maybe
Result: TypeAlias = "ir.Value | Items | Maybe | None"  # None: not known yet


class EliminateSequences(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Follow every sequence from where it is made to where its elements are used."""
        elimination = _Elimination(model)
        elimination.walk(model.graph)
        elimination.flatten_outputs()
        if elimination.modified:
            make_names_unique(model)
        return ir.passes.PassResult(model, elimination.modified)


class _Elimination:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.known: dict[ir.Value, Static] = {}
        self.modified = False
        self.growing = 0  # how many loops around carry sequences

    def walk(self, graph: ir.Graph) -> None:
        for node in list(graph):
            grows = node.op_type == "Loop" and any(self.is_held(v) for v in node.inputs[2:])
            self.growing += grows
            for body in bodies(node):
                self.walk(body)
            self.growing -= grows
            if node.domain:
                continue
            _set_type(node)
            if node.op_type == "If":
                self.flatten_branches(node)
                continue
            rule = _RULES.get(node.op_type)
            if rule is None:
                continue
            write = Writer(self.model, node.name)
            result = rule(self, write, node)
            if isinstance(result, Items | Maybe):
                self.known[node.outputs[0]] = result
            elif result is not None:
                write.put_before(node)
                replace(node, [result])
                self.modified = True

    def is_held(self, value: ir.Value | None) -> bool:
        """Whether ``value`` is a sequence or optional."""
        return value is not None and (
            value in self.known or isinstance(value.type, ir.SequenceType | ir.OptionalType)
        )

    def items(self, value: ir.Value | None) -> tuple[ir.Value, ...] | None:
        """Return the elements of a sequence, or of an optional one, or None."""
        found = self.known.get(value) if value is not None else None
        if isinstance(found, Maybe):
            found = found.content if isinstance(found.content, Items) else None
        return None if found is None else found.values

    def flatten_branches(self, node: ir.Node) -> None:
        """Let both branches return elements, where both return sequences of one length."""
        graphs = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        pairs = list(zip(*(graph.outputs for graph in graphs), strict=True))
        found = [[self.items(value) for value in pair] for pair in pairs]
        if node.graph is None or all(one is None for pair in found for one in pair):
            return
        if any((one is None) != (two is None) or len(one or ()) != len(two or ())
               for one, two in found):  # fmt: skip
            return
        for branch, graph in enumerate(graphs):
            outputs: list[ir.Value] = []
            for pair, items in zip(pairs, found, strict=True):
                elements = items[branch]
                outputs += [pair[branch]] if elements is None else _copies(graph, elements)
            graph.outputs.clear()
            graph.outputs.extend(outputs)
        sizes = [1 if items[0] is None else len(items[0]) for items in found]
        made = ir.Node("", "If", node.inputs, list(node.attributes.values()),
                       num_outputs=sum(sizes), name=node.name)  # fmt: skip
        node.graph.insert_before(node, made)
        rest = list(made.outputs)
        results = []
        for output, items, size in zip(node.outputs, found, sizes, strict=True):
            values, rest = rest[:size], rest[size:]
            if items[0] is None:
                values[0].type, values[0].shape = output.type, output.shape
                results.append(values[0])
            else:
                kept = ir.Node("", "SequenceConstruct", values)
                node.graph.insert_before(node, kept)
                self.known[kept.outputs[0]] = Items(tuple(values))
                results.append(kept.outputs[0])
        node.attributes.clear()  # the branches are the new node's
        replace(node, results)
        self.modified = True

    def flatten_outputs(self) -> None:
        """Return the elements of sequences in the place of these."""
        graph = self.model.graph
        outputs: list[ir.Value] = []
        for value in graph.outputs:
            found = self.known.get(value)
            content = found.content if isinstance(found, Maybe) else found
            if found is None:
                outputs.append(value)
                continue
            name = str(value.name)
            elements = content.values if isinstance(content, Items) else (content,)
            names = [name] if not isinstance(content, Items) else [
                f"{name}_{k}" for k in range(len(elements))
            ]  # fmt: skip
            value.name = f"{name}_sequence"
            copies = _copies(graph, [v for v in elements if v is not None])
            for copy, own in zip(copies, names, strict=False):
                copy.name = own
            outputs += copies
            self.modified = True
        if outputs != list(graph.outputs):
            graph.outputs.clear()
            graph.outputs.extend(outputs)


def _copies(graph: ir.Graph, values: tuple[ir.Value, ...] | list[ir.Value]) -> list[ir.Value]:
    """Add copies of ``values`` that ``graph`` can return."""
    made = []
    for value in values:
        node = ir.Node("", "Identity", [value])
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        node.outputs[0].name = f"{value.name}_element"
        graph.append(node)
        made.append(node.outputs[0])
    return made


def _set_type(node: ir.Node) -> None:
    """Set the types of sequences, which shape inference takes for those of their elements."""
    if node.op_type in _MAKERS:
        value = next((v for v in node.inputs if v is not None), None)
        dtype = value.dtype if value is not None else None
        if dtype is None and "dtype" in node.attributes:
            dtype = ir.DataType(node.attributes["dtype"].as_int())
        kind = ir.SequenceType(ir.TensorType(dtype or ir.DataType.FLOAT))
        if not isinstance(node.outputs[0].type, ir.SequenceType):
            node.outputs[0].type, node.outputs[0].shape = kind, None
    elif node.op_type == "Optional":
        if not isinstance(node.outputs[0].type, ir.OptionalType):
            kind = node.inputs[0].type if node.inputs and node.inputs[0] is not None else None
            kind = kind or ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].type, node.outputs[0].shape = ir.OptionalType(kind), None
    elif node.op_type in ("Identity", "If", "Loop"):
        sources = list(node.inputs[:1])
        if bodies(node):
            sources = list(bodies(node)[0].outputs)[1 if node.op_type == "Loop" else 0 :]
        for output, source in zip(node.outputs, sources, strict=False):
            if source is not None and isinstance(source.type, ir.SequenceType | ir.OptionalType):
                output.type, output.shape = source.type, None


def _construct(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    return Items(tuple(v for v in node.inputs if v is not None))


def _place(node: ir.Node, position: int, last: int, default: int) -> int | None:
    """Return the position that an input gives, from 0 to ``last``; None if only run time tells."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return default
    given = scalar_of(value)
    if given is None:
        return None
    size = last + (node.op_type != "SequenceInsert")
    place = int(given) + (size if given < 0 else 0)
    if not 0 <= place <= last:
        raise SourceError(
            f"node '{node.name}' ({node.op_type}): position {given} is outside the sequence, which "
            f"has {size} elements",
            hint="check the lengths of the model's sequences",
        )
    return place


def _insert(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    items = own.items(node.inputs[0])
    if items is None or node.inputs[1] is None:
        return None
    place = _place(node, 2, len(items), len(items))
    if place is None:
        return None
    return Items((*items[:place], node.inputs[1], *items[place:]))


def _erase(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    items = own.items(node.inputs[0])
    place = None if items is None else _place(node, 1, len(items) - 1, len(items) - 1)
    if items is None or place is None:
        return None
    return Items((*items[:place], *items[place + 1 :]))


def _at(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    items = own.items(node.inputs[0])
    if items is None:
        return None
    place = _place(node, 1, len(items) - 1, 0)
    if place is not None:
        return items[place]
    if own.growing:
        return None  # that loop will be unrolled, and then the place is known
    shapes = {str(value.shape) for value in items}
    if not items or len(shapes) > 1 or items[0].shape is None or not items[0].shape.is_static():
        return None
    return write("Gather", _stack(write, items, 0), node.inputs[1], axis=0)


def _length(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    items = own.items(node.inputs[0])
    return None if items is None else write.constant(len(items))


def _stack(write: Writer, items: tuple[ir.Value, ...], axis: int) -> ir.Value:
    place = write.constant([axis])
    return write("Concat", *(write("Unsqueeze", v, place) for v in items), axis=axis)


def _concatenate(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    items = own.items(node.inputs[0])
    if not items:
        return None
    axis = node.attributes["axis"].as_int()
    if "new_axis" in node.attributes and node.attributes["new_axis"].as_int():
        return _stack(write, items, axis)
    return write("Concat", *items, axis=axis)


def _split(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    x = node.inputs[0]
    split = node.inputs[1] if len(node.inputs) > 1 else None
    sizes, keep = constant_of(split), node.attributes.get("keepdims")
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if x is None or x.shape is None or (split is not None and sizes is None):
        return None
    total = x.shape[axis]
    if not isinstance(total, int):
        return None
    if sizes is None or sizes.ndim == 0:
        each = 1 if sizes is None else int(sizes)
        parts = [min(each, total - start) for start in range(0, total, each)]
    else:
        parts = [int(size) for size in sizes]
    if sum(parts) != total or any(part < 0 for part in parts):
        raise SourceError(
            f"node '{node.name}' (SplitToSequence) splits {total} elements into {parts}",
            hint="export the model again",
        )
    values = write.several("Split", [x, write.constant(parts)], len(parts), axis=axis)
    if split is None and keep is not None and not keep.as_int():
        values = [write("Squeeze", value, write.constant([axis])) for value in values]
    write.put_before(node)
    made = ir.Node("", "SequenceConstruct", values)
    if node.graph is not None:
        node.graph.insert_before(node, made)
    own.known[made.outputs[0]] = Items(tuple(values))
    write.nodes = []
    return made.outputs[0]


def _identity(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    return own.known.get(node.inputs[0]) if node.inputs[0] is not None else None


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType)


def _optional(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    value = node.inputs[0] if node.inputs else None
    if value is None:
        return Maybe(None)
    found = own.known.get(value)
    if isinstance(found, Items):
        return Maybe(found)
    return Maybe(value) if found is None and _is_tensor(value) else None


def _element(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    value = node.inputs[0]
    if value is None:
        return None
    found = own.known.get(value)
    if isinstance(found, Maybe):
        return found.content
    return found if found is not None else value if _is_tensor(value) else None


def _has_element(own: _Elimination, write: Writer, node: ir.Node) -> Result:
    value = node.inputs[0] if node.inputs else None
    found = own.known.get(value) if value is not None else Maybe(None)
    if found is None and (value is None or not _is_tensor(value)):
        return None
    holds = not isinstance(found, Maybe) or found.content is not None
    return write.constant(holds, bool)


_MAKERS: Final = (
    "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence",
)  # fmt: skip
_RULES: Final[dict[str, Callable[[_Elimination, Writer, ir.Node], Result]]] = {
    "ConcatFromSequence": _concatenate,
    "Identity": _identity,
    "Optional": _optional,
    "OptionalGetElement": _element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _construct,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}
