"""What matchers of several operators share.

Stage *integer*. Takes a region that ends in an operator's result and its nodes; gives attributes,
windows and bounds of its integer form. It knows nothing of any target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.arithmetic import WIDE_BITS, factors
from mlopsc.integer.quantisation import Quantisation
from mlopsc.integer.recipe import Recipe
from mlopsc.integer.recognise import Region
from mlopsc.integer.tables import function_table

WIDE_MAX: Final = (1 << WIDE_BITS) - 1  # of sums of 16-bit activations


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return an attribute, or ``default``; what is a tuple is a list."""
    found = node.attributes.get(name)
    if found is None or found.value is None:
        return default
    return list(found.value) if isinstance(found.value, tuple) else found.value


def output_range(region: Region) -> dict[str, int]:
    """Return the attributes that say where results lie."""
    return {"zero_out": region.quantisation.zero, "low": region.low, "high": region.high}


def magnitude(quantisation: Quantisation) -> int:
    """Return the greatest absolute value of an integer."""
    low, high = quantisation.range
    return max(-low, high)


def window_of(
    node: ir.Node, kernel: Sequence[int], sizes: Sequence[int], out: Sequence[int]
) -> dict[str, Any]:
    """Return kernel, strides, dilations and explicit pads of a convolution or pooling."""
    rank = len(kernel)
    strides = [int(v) for v in attribute(node, "strides") or [1] * rank]
    dilations = [int(v) for v in attribute(node, "dilations") or [1] * rank]
    mode = attribute(node, "auto_pad", "NOTSET")
    pads = [int(v) for v in attribute(node, "pads") or [0] * (2 * rank)]
    if mode == "VALID":
        pads = [0] * (2 * rank)
    elif mode != "NOTSET":
        total = [
            max(0, (o - 1) * s + (k - 1) * d + 1 - n)
            for o, s, k, d, n in zip(out, strides, kernel, dilations, sizes, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    return {
        "kernel_shape": [int(k) for k in kernel],
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
    }


def convert(
    region: Region, recipe: Recipe, value: ir.Value, source: Quantisation,
    shape: Sequence[int], role: str,
) -> ir.Value:  # fmt: skip
    """Return ``value`` in the quantisation and range of the result."""
    out = region.quantisation
    if source.same(out) and not region.clamped:
        return value
    if out.bits == 8:
        table = recipe.constant(
            function_table(lambda x: x, source, out, region.low, region.high), f"{role}_table"
        )
        return recipe.node("Table", [value, table], out.dtype, shape)
    made = factors(np.array(source.scale / out.scale))
    attributes = {
        "zero_in": source.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **output_range(region),
    }  # fmt: skip
    return recipe.node("Requantize", [value], out.dtype, shape, attributes)
