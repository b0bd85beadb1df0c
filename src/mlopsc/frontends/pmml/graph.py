"""Frontend *pmml*: builds ONNX graphs whose values are columns of float32, one row per sample.

NaN is a missing value. Texts are places in a list of labels. What is compared with a float64 limit
is compared exactly: ``below`` and ``above`` move the limit to a float32 that decides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlopsc.errors import ConversionError
from mlopsc.frontends.rounding import above, below

Array = np.ndarray[Any, Any]
ML: Final = "ai.onnx.ml"
LARGEST: Final = float(np.finfo(np.float32).max)
NAN: Final = float("nan")
_OPSETS: Final = (("", 21), (ML, 5))
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@dataclass(frozen=True)
class Column:
    """The values of a field: [N, 1].

    Attributes:
        tensor: Its name in a graph.
        labels: What places stand for, if they are texts.
        open: Whether labels may be added, as the document does not list them.
    """

    tensor: str
    labels: list[str] | None = None
    open: bool = False

    def place(self, text: str) -> int:
        """Return the place of a label; -2, which is never met, if it is none."""
        labels = self.labels or []
        if text not in labels:
            if not self.open:
                return -2
            labels.append(text)
        return labels.index(text)


def as_float32(value: object) -> Array:
    """Return numbers as float32.

    Raises:
        ConversionError: One is beyond its range.
    """
    wide = np.asarray(value, np.float64)
    if (np.isfinite(wide) & (np.abs(wide) > LARGEST)).any():
        raise ConversionError(
            f"the PMML model has the number {wide.ravel()[np.abs(wide).argmax()]:g}, which is "
            "beyond the range of float32, in which the model is computed",
            hint="scale the field or the target that it belongs to",
        )
    return wide.astype(np.float32)


class Graph:
    """Nodes and constants of one graph."""

    def __init__(self, prefix: str) -> None:
        """Start an empty graph whose tensors' names begin with ``prefix``."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._prefix = prefix
        self._made: dict[tuple[Any, ...], str] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node, unless there is an equal one, and return its output."""
        key = (kind, inputs, repr(sorted(attributes.items())))
        if key in self._made:
            return self._made[key]
        name = f"{self._prefix}.{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes)
        )
        self._made[key] = name
        return name

    def largest(self, tensor: str, count: int) -> str:
        """Return the ``count`` largest values of each row, in descending order."""
        name = f"{self._prefix}.{len(self.nodes)}"
        inputs = [tensor, self.constant([count], np.int64)]
        self.nodes.append(
            helper.make_node("TopK", inputs, [name, f"{name}.places"], name=name, axis=1)
        )
        return name

    def constant(self, value: object, dtype: Any = np.float32) -> str:
        """Return the name of a constant."""
        array = np.asarray(value, dtype) if dtype != np.float32 else as_float32(value)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            name = f"{self._prefix}.c{len(self.constants)}"
            self.constants[name] = numpy_helper.from_array(array, name)
            self._made[key] = name
        return self._made[key]

    def where(self, condition: str, yes: str | float, no: str | float) -> str:
        """Return ``yes`` where the condition holds; numbers are constants."""
        first, second = (v if isinstance(v, str) else self.constant(v) for v in (yes, no))
        return self.op("Where", condition, first, second)

    def missing(self, tensor: str) -> str:
        """Return where a column has no value."""
        return self.op("IsNaN", tensor)

    def number(self, condition: str) -> str:
        """Return 1 where the condition holds, else 0."""
        return self.op("Cast", condition, to=FLOAT)

    def compare(self, operator: str, tensor: str, limit: float) -> str:
        """Return where an operator of PMML holds for a column; never where it is missing."""
        if operator == "equal":
            return self.op("Equal", tensor, self.constant(limit))
        if operator == "notEqual":
            same = self.op("Equal", tensor, self.constant(limit))
            return self.op("Not", self.op("Or", same, self.missing(tensor)))
        kind = {
            "lessThan": "Less",
            "lessOrEqual": "LessOrEqual",
            "greaterThan": "Greater",
            "greaterOrEqual": "GreaterOrEqual",
        }[operator]
        round_to = below if kind in ("LessOrEqual", "Greater") else above
        return self.op(kind, tensor, self.constant(round_to(limit)))

    def take(self, table: Array, column: Column) -> str:
        """Return the rows of a table for the labels of a column; its last is for missing ones."""
        place = self.where(self.missing(column.tensor), float(len(table) - 1), column.tensor)
        index = self.op("Reshape", place, self.constant([-1], np.int64))
        return self.op("Gather", self.constant(table), self.op("Cast", index, to=INT64), axis=0)


def model_of(
    graphs: Sequence[Graph],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    extra: Sequence[onnx.NodeProto] = (),
) -> onnx.ModelProto:
    """Return a model of the nodes of ``graphs``, in this order, ``extra`` after the first."""
    nodes = [*graphs[0].nodes, *extra, *(n for g in graphs[1:] for n in g.nodes)]
    constants = {name: tensor for g in graphs for name, tensor in g.constants.items()}
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes, "pmml", inputs, outputs, [t for name, t in constants.items() if name in used]
    )
    opsets = [helper.make_opsetid(*pair) for pair in _OPSETS]
    return helper.make_model(made, opset_imports=opsets, ir_version=10, producer_name="mlopsc")
