"""Writes the nodes that take a cluster's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

DOMAIN: Final = "mlopsc.integer"


@dataclass
class Recipe:
    """Nodes and constants, in order; names are unique by what they are for.

    Attributes:
        name: Of the tensor that is computed, and the prefix of everything else.
        nodes: Made so far.
        constants: Made so far.
    """

    name: str
    nodes: list[ir.Node] = field(default_factory=list)
    constants: list[ir.Value] = field(default_factory=list)

    def constant(self, array: Array, role: str) -> ir.Value:
        """Return a constant; ``role`` tells it apart."""
        name = f"{self.name}/{role}"
        value = ir.Value(
            name=name,
            const_value=ir.tensor(array, name=name),
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        )
        self.constants.append(value)
        return value

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        dtype: ir.DataType,
        shape: Sequence[int],
        attributes: dict[str, Any] | None = None,
        *,
        domain: str = DOMAIN,
    ) -> ir.Value:
        """Append a node and return its output."""
        made = ir.node(op, list(inputs), attributes or {}, domain=domain)
        output = made.outputs[0]
        output.name = f"{self.name}/{len(self.nodes)}"
        output.type, output.shape = ir.TensorType(dtype), ir.Shape(list(shape))
        self.nodes.append(made)
        return output


def shape_of(value: ir.Value) -> tuple[int, ...] | None:
    """Return a static shape."""
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(d) for d in value.shape)
