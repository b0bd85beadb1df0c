"""The graphs of a bundle as they travel between stages: serialised ONNX with its weights beside it.

An initializer of more than ``INLINE_BYTES`` is *external data* in the graph, in ONNX's sense: its
location is ``<stage>.weights``, and its offset finds its bytes among the weights. They may be
mapped from a file, so that a graph costs no memory for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlopsc.schema.bundle import StageName
from mlopsc.schema.common import digest_bytes

INLINE_BYTES = 1024  # smaller ones stay in the graph, where shape inference looks for them
ALIGN = 64  # of every initializer among the weights


@dataclass(frozen=True)
class Weight:
    """The content of one initializer, in ONNX's raw form.

    Attributes:
        data: The bytes.
        file: The file that ``data`` is mapped from, or None if it lies in memory.
        offset: Where in that file.
    """

    data: memoryview
    file: Path | None = field(default=None, compare=False)
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StageGraph:
    """One graph.

    Attributes:
        name: Which stage it is.
        model: Serialised ``onnx.ModelProto``. Its outputs are the next stage's inputs, by name.
        weights: Its external data by offset; each offset is a multiple of ``ALIGN``.
    """

    name: StageName
    model: bytes
    weights: Mapping[int, Weight] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the graph and its weights: of what it computes, and of nothing else."""
        return digest_bytes(self.model, *self.weight_chunks())

    def weight_chunks(self) -> Iterator[memoryview]:
        """Yield the weights as one block, zeros between them."""
        end = 0
        for offset, weight in sorted(self.weights.items()):
            if offset > end:
                yield memoryview(bytes(offset - end))
            yield weight.data
            end = offset + len(weight.data)


def weights_name(stage: str) -> str:
    """Return the location of a stage's weights: the name of the bundle's member."""
    return f"{stage}.weights"
