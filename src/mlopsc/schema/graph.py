"""The graphs of a bundle as they travel between stages: serialised ONNX, by stage."""

from __future__ import annotations

from dataclasses import dataclass

from mlopsc.schema.bundle import StageName


@dataclass(frozen=True)
class StageGraph:
    """One normalised graph.

    Attributes:
        name: Which stage it is.
        model: Serialised ``onnx.ModelProto``. Its outputs are the next stage's inputs, by name.
    """

    name: StageName
    model: bytes
