"""How each core operator computes: one file per family, one lowering per operator.

A lowering takes a ``Node`` and gives TE tensors, one per output that is there.
"""

from __future__ import annotations

from typing import Final

from mlopsc.lower.ops import (
    blocked,
    blocked_integers,
    cast,
    convolution,
    elementwise,
    indexing,
    integer,
    linear,
    movement,
    normalization,
    ordered,
    patches,
    pooling,
    reduction,
    regions,
    scatter,
    trees,
)
from mlopsc.lower.ops.node import Lowering, Node, Operand, Result, stored

LOWERINGS: Final[dict[str, Lowering]] = {
    **blocked.LOWERINGS,
    **blocked_integers.LOWERINGS,
    **cast.LOWERINGS,
    **convolution.LOWERINGS,
    **elementwise.LOWERINGS,
    **indexing.LOWERINGS,
    **integer.LOWERINGS,
    **linear.LOWERINGS,
    **movement.LOWERINGS,
    **normalization.LOWERINGS,
    **ordered.LOWERINGS,
    **patches.LOWERINGS,
    **pooling.LOWERINGS,
    **reduction.LOWERINGS,
    **regions.LOWERINGS,
    **scatter.LOWERINGS,
    **trees.LOWERINGS,
}

__all__ = ["LOWERINGS", "Lowering", "Node", "Operand", "Result", "stored"]
