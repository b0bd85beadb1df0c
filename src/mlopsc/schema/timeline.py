"""What runs and what lives when: the steps of a program with the nodes they compute, and the arena.

Made by ``lower``, kept in ``model.json``, read by ``fit``. Packages of before have an empty one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlopsc.dtypes import DTypeName
from mlopsc.schema.common import Frozen

Count = Annotated[int, Field(ge=0)]


class LayerNode(Frozen):
    """A node of the model's graph in normal form.

    Attributes:
        name: Its name; of its first output, if it has none.
        op: Its operator.
    """

    name: str
    op: str


class Layer(Frozen):
    """One step of the program.

    Attributes:
        kind: ``kernel`` or ``copy``; ``loop`` and ``if`` stand before the steps that they hold, and
            ``end`` behind those of a loop.
        kernel: C name of the kernel, or empty.
        function: C name of the function that computes it: the kernel, or a hand-written one that it
            is a use of.
        nodes: What the kernel computes, in order.
        calls: How often the step runs in an inference; the iterations of a loop whose number is
            known only at run time count once.
        macs: Multiply-accumulate operations of one call.
        weights: Bytes of constants that a call reads, by element type.
    """

    kind: Literal["kernel", "copy", "loop", "if", "end"]
    kernel: str = ""
    function: str = ""
    nodes: tuple[LayerNode, ...] = ()
    calls: Count = 1
    macs: Count = 0
    weights: dict[DTypeName, Count] = Field(default_factory=dict)


class ArenaBlock(Frozen):
    """Bytes of the arena and when they are needed.

    Attributes:
        kind: ``tensor`` passes values between steps, ``scratch`` serves one call.
        offset: Bytes from the start of the arena.
        nbytes: Size.
        first: Number of the first step that needs it.
        last: Number of the last one.
    """

    kind: Literal["tensor", "scratch"]
    offset: Count
    nbytes: Count
    first: Count
    last: Count


class Timeline(Frozen):
    """The steps in the order they are written, and the blocks of the arena."""

    layers: tuple[Layer, ...] = ()
    blocks: tuple[ArenaBlock, ...] = ()
