"""Says which operators the graphs of a bundle hold, on which element types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from mlopsc.schema.graph import StageGraph


@dataclass(frozen=True)
class OperatorUse:
    """How a bundle uses one operator.

    Attributes:
        op: Its name, with the domain in front if it is not ``ai.onnx``.
        nodes: How many there are, those of bodies included.
        types: Element types of its inputs and outputs, sorted.
    """

    op: str
    nodes: int
    types: tuple[str, ...]


def operators_of(stages: Sequence[StageGraph]) -> list[OperatorUse]:
    """Return the operators of all stages, by name."""
    counts: dict[str, int] = {}
    types: dict[str, set[str]] = {}
    for stage in stages:
        for node in ir.from_proto(onnx.load_model_from_string(stage.model)).graph.all_nodes():
            op = f"{node.domain}::{node.op_type}" if node.domain else str(node.op_type)
            counts[op] = counts.get(op, 0) + 1
            values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype]
            types.setdefault(op, set()).update(_type_name(v.dtype) for v in values)
    return [OperatorUse(op, counts[op], tuple(sorted(types[op]))) for op in sorted(counts)]


def _type_name(dtype: ir.DataType) -> str:
    name = str(dtype.name)
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
