"""Pass *NumberStrings*: strings become int64 places in tables of strings.

Requires: inferred types, *PrepareBodies*, constants folded. Ensures: a tensor of strings is left
only where it meets a node that does more with strings than move, compare, look up or give them.
Strings that meet share one table, in the order in which the graph names them; ``tables`` says what
the inputs and outputs of the graph stand for.

A string that is given to an input and is not in the table has the place -1, which no encoder finds
and no constant equals. Two such strings would be equal, and none can be given back: where an input
meets an output of the graph, or is compared with what is no constant, strings are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise.constants import body_of
from mlopsc.importer.normalise.storage_types import MOVING
from mlopsc.importer.normalise.subgraphs import all_graphs
from mlopsc.importer.normalise.write import add_constant

ML: Final = "ai.onnx.ml"
STRING: Final = ir.DataType.STRING
_INT64: Final = ir.TensorType(ir.DataType.INT64)
# Those of MOVING that are left out put a value of their own between the elements.
_MOVING: Final = (MOVING - {"Pad", "Trilu"}) | {
    "Compress", "Equal", "ScatterElements", "ScatterND",
}  # fmt: skip
# The attribute with the labels of a classifier if they are integers.
_CLASSIFIERS: Final = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}
_ENCODERS: Final = ("CategoryMapper", "LabelEncoder", "OneHotEncoder")
_UNKNOWN: Final = "_Unused"  # what encoders give by default


class NumberStrings(ir.passes.InPlacePass):
    """See the module's docstring.

    Attributes:
        tables: The strings that an input or output of the graph chooses from, by its name.
    """

    def __init__(self) -> None:
        """Start without tables."""
        super().__init__()
        self.tables: dict[str, tuple[str, ...]] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Number every group of strings that meet, unless something else is done with them."""
        groups = _Groups(model)
        edges = (*model.graph.inputs, *model.graph.outputs)
        found = {str(v.name): groups.table(v) for v in edges}
        modified = False
        for node in list(model.graph.all_nodes()):
            for value in node.inputs:
                modified |= _number_constant(value, groups)
            modified |= _number_node(model, node, groups)
        for value in groups.numbered():
            _number_constant(value, groups)  # what no node reads
            value.type = _INT64
            modified = True
        self.tables |= {name: tuple(t) for name, t in found.items() if t is not None}
        return ir.passes.PassResult(model, modified)


class _Table(dict[str, int]):
    """The place of every string."""

    def places(self, strings: Iterable[str | bytes]) -> list[int]:
        """Return the place of every string, a new one if it has none.

        Raises:
            UnsupportedOpError: One is no text.
        """
        return [self.setdefault(_text(string), len(self)) for string in strings]


def _text(string: str | bytes) -> str:
    if isinstance(string, str):
        return string
    try:
        return string.decode()
    except UnicodeDecodeError as error:
        raise UnsupportedOpError(
            f"the string {string!r} is not UTF-8; expected text",
            hint="export the model with strings that are UTF-8, as ONNX defines",
        ) from error


class _Groups:
    """The tensors of strings of a model; those that meet are one group and share a table."""

    def __init__(self, model: ir.Model) -> None:
        self._parents: dict[ir.Value, ir.Value] = {}
        kept: list[ir.Value] = []
        given = [v for v in model.graph.inputs if _is_string(v)]
        for graph in all_graphs(model):
            for value in (*graph.inputs, *graph.initializers.values()):
                self._add(value)
            for node in graph:
                strings = [v for v in (*node.inputs, *node.outputs) if _is_string(v)]
                for value in strings:
                    self._add(value)
                meeting = _meeting(node)
                kept += strings if meeting is None else []
                for one, *others in meeting or ():
                    for other in others:
                        self._join(one, other)
        open_roots = {self._root(value) for value in given}
        ends = [v for v in model.graph.outputs if _is_string(v)]
        for value in (*ends, *_compared(model)):
            kept += [value] if self._root(value) in open_roots else []
        kept_roots = {self._root(value) for value in kept}
        roots = {self._root(value) for value in self._parents}
        self._tables = {root: _Table() for root in roots - kept_roots}

    def table(self, value: ir.Value | None) -> _Table | None:
        """Return the table of ``value``, or None if its strings stay, or are none."""
        return None if value not in self._parents else self._tables.get(self._root(value))

    def numbered(self) -> Iterator[ir.Value]:
        """Yield every value that has a table."""
        return (value for value in self._parents if self.table(value) is not None)

    def _add(self, value: ir.Value | None) -> None:
        if value is not None and _is_string(value):
            self._parents.setdefault(value, value)

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parents[value] is not value:
            value = self._parents[value]
        return value

    def _join(self, one: ir.Value, other: ir.Value) -> None:
        self._add(one)
        self._add(other)
        self._parents[self._root(other)] = self._root(one)


def _is_string(value: ir.Value | None) -> bool:
    tensor = value is not None and isinstance(value.type, ir.TensorType)
    return tensor and value is not None and value.dtype == STRING


def _compared(model: ir.Model) -> list[ir.Value]:
    """Return strings that are compared with strings that are no constants."""
    found: list[ir.Value] = []
    for node in model.graph.all_nodes():
        strings = [v for v in node.inputs if v is not None and _is_string(v)]
        if node.op_type == "Equal" and not any(v.const_value is not None for v in strings):
            found += strings
    return found


def _meeting(node: ir.Node) -> list[list[ir.Value]] | None:
    """Return which strings meet at ``node``; None if it does more than that with them."""
    rows: list[list[Any]]
    values = [*node.inputs, *node.outputs]
    if node.op_type == "If":
        branches = (node.attributes[n].as_graph() for n in ("then_branch", "else_branch"))
        rows = [list(row) for row in zip(node.outputs, *(b.outputs for b in branches), strict=True)]
    elif node.op_type == "Loop":
        body, initial = body_of(node), node.inputs[2:]
        count = len(initial)
        inside, after = body.inputs[2:], body.outputs[1:]
        carried = zip(initial, inside, after[:count], node.outputs[:count], strict=True)
        stacked = zip(after[count:], node.outputs[count:], strict=True)
        rows = [list(row) for row in (*carried, *stacked)]
    elif node.domain == ML and node.op_type in (*_ENCODERS, *_CLASSIFIERS):
        if len(node.attributes.get_strings("classlabels_strings") or (0, 0)) < 2:
            return None  # the runtime itself looks for a second one
        rows = [[value] for value in values]
    elif node.op_type in ("ArrayFeatureExtractor", "Cast") or (
        not node.domain and node.op_type in _MOVING
    ):
        rows = [values]
        if node.op_type == "Cast" and not all(_is_string(value) for value in values):
            return None
    else:
        return None if any(_is_string(value) for value in values) else []
    strings = ([value for value in row if _is_string(value)] for row in rows)
    return [row for row in strings if row]


def _number_constant(value: ir.Value | None, groups: _Groups) -> bool:
    table = groups.table(value)
    tensor = value.const_value if value is not None else None
    if value is None or table is None or tensor is None or tensor.dtype != STRING:
        return False
    places = np.array(table.places(_elements(tensor)), np.int64)
    value.const_value = ir.tensor(places.reshape(tensor.shape.numpy()), name=value.name)
    return True


def _number_node(model: ir.Model, node: ir.Node, groups: _Groups) -> bool:
    """Write places for the strings among the attributes of ``node``."""
    if node.op_type == "Cast" and groups.table(node.outputs[0]) is not None:
        node.attributes.pop("to")
        node.op_type = "Identity"
        return True
    if node.domain != ML:
        return False
    if node.op_type in _CLASSIFIERS and "classlabels_strings" in node.attributes:
        return _number_classes(model, node, groups)
    if node.op_type not in _ENCODERS:
        return False
    given, found = groups.table(node.inputs[0]), groups.table(node.outputs[0])
    if given is None and found is None:
        return False
    if node.op_type == "OneHotEncoder":
        return _number_attribute(node, "cats", given)
    _write_pairs(node)
    modified = _number_attribute(node, "keys", given)
    if _number_attribute(node, "values", found):
        default = node.attributes.pop("default_tensor", None) or node.attributes.pop(
            "default_string", ir.AttrString("default_string", _UNKNOWN)
        )
        (place,) = (found or _Table()).places(_texts(default))
        node.attributes.add(ir.AttrInt64("default_int64", place))
        modified = True
    return modified


def _elements(tensor: ir.TensorProtocol) -> list[str | bytes]:
    """Return the strings of ``tensor`` in row order."""
    if isinstance(tensor, ir.StringTensor):  # NumPy would shorten those that end with zero bytes
        return list(tensor.string_data())
    return list(tensor.numpy().ravel().tolist())


def _texts(attribute: ir.Attr) -> list[str | bytes]:
    if attribute.type == ir.AttributeType.TENSOR:
        return _elements(attribute.as_tensor())
    value = attribute.value
    return [value] if isinstance(value, str | bytes) else list(value)


def _write_pairs(node: ir.Node) -> None:
    """Write ``CategoryMapper`` and the first ``LabelEncoder`` as today's: keys and values."""
    name = "cats" if node.op_type == "CategoryMapper" else "classes"
    strings = node.attributes.pop(f"{name}_strings", None)
    if strings is None:
        return
    numbers = node.attributes.pop("cats_int64s", None)
    texts = list(strings.value)
    places = range(len(texts)) if numbers is None else numbers.value
    backwards = _is_string(node.inputs[0])
    keys, values = (texts, places) if backwards else (places, texts)
    pairs = dict(zip(keys, values, strict=False))  # the last of equal keys counts
    kinds = ("strings", "int64s") if backwards else ("int64s", "strings")
    write = {"strings": ir.AttrStrings, "int64s": ir.AttrInt64s}
    for what, kind, entries in zip(("keys", "values"), kinds, (pairs, pairs.values()), strict=True):
        node.attributes.add(write[kind](f"{what}_{kind}", list(entries)))
    node.op_type = "LabelEncoder"


def _number_attribute(node: ir.Node, what: str, table: _Table | None) -> bool:
    """Write ``what_strings``, or a tensor of strings, as ``what_int64s``."""
    for name in (f"{what}_strings", f"{what}_tensor"):
        given = node.attributes.get(name)
        if table is None or given is None:
            continue
        if name.endswith("tensor") and given.as_tensor().dtype != STRING:
            continue
        node.attributes.pop(name)
        node.attributes.add(ir.AttrInt64s(f"{what}_int64s", table.places(_texts(given))))
        return True
    return False


def _number_classes(model: ir.Model, node: ir.Node, groups: _Groups) -> bool:
    """Let a classifier give the number of a class, as the runtime does, and look its place up."""
    label = node.outputs[0]
    wanted = bool(label.uses()) or label.is_graph_output()
    table = groups.table(label)
    if wanted and table is None:
        return False
    strings = list(node.attributes.pop("classlabels_strings").value)
    numbers = list(range(len(strings)))
    node.attributes.add(ir.AttrInt64s(_CLASSIFIERS[str(node.op_type)], numbers))
    places = table.places(strings) if table is not None else numbers
    if wanted and places != numbers:
        _look_up(model, label, np.array(places, np.int64))
    return True


def _look_up(model: ir.Model, number: ir.Value, places: np.ndarray[Any, Any]) -> None:
    """Put a ``Gather`` of ``places`` between ``number`` and those who use it."""
    node = number.producer()
    graph = node.graph if node is not None else None
    if node is None or graph is None:
        raise ValueError("a value that no node gives")
    gather = ir.node("Gather", [add_constant(model, places, f"{number.name}_places"), number])
    place = gather.outputs[0]
    place.name, number.name = number.name, f"{number.name}_number"
    place.type, place.shape = _INT64, number.shape
    for user, index in list(number.uses()):
        if user is not gather:
            user.replace_input_with(index, place)
    for index, output in enumerate(graph.outputs):
        if output is number:
            graph.outputs[index] = place
    graph.insert_after(node, gather)
