"""Integer operators → calls of the hand-written kernels for microcontrollers.

Takes a node of the domain ``mlopsc.integer`` and the variant that the target has; gives the
function that computes the whole node, its constants in the order that this wants, and the
structure that describes it. What no function takes is lowered like any other operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from mlopsc.dtypes import DTypeName, dtype_name
from mlopsc.integer.recipe import DOMAIN
from mlopsc.lower.micro import (
    KERNELS,
    NARROW,
    NARROW_DEPTH,
    AddShape,
    ConvShape,
    DenseShape,
    MeanShape,
    MicroKernel,
    Operator,
    PatchShape,
    SoftmaxShape,
    TableShape,
    Variant,
)
from mlopsc.lower.ops.node import Node
from mlopsc.lower.ops.patches import DOMAIN as PATCH_DOMAIN
from mlopsc.schema.program import MicroUse

Array = np.ndarray[Any, Any]

# How each function takes its description: by a pointer to a structure, or as plain numbers.
_STRUCTURES: Final[dict[Operator, str]] = {
    "add": "mlopsc_add_shape",
    "border": "mlopsc_patch_shape",
    "conv": "mlopsc_conv_shape",
    "conv_s4": "mlopsc_conv_shape",
    "dense": "mlopsc_dense_shape",
    "dense_s4": "mlopsc_dense_shape",
    "depthwise": "mlopsc_conv_shape",
    "depthwise_s4": "mlopsc_conv_shape",
    "extract": "mlopsc_patch_shape",
    "mean": "mlopsc_mean_shape",
    "softmax": "mlopsc_softmax_shape",
    "table": "",
}
_OF_PATCHES: Final = frozenset({"border", "extract"})
_WITH_SCRATCH: Final = frozenset({*NARROW, *NARROW.values()})


@dataclass(frozen=True)
class MicroCall:
    """One node as a call.

    Attributes:
        operator: Which function.
        variant: Whose.
        shape: What describes it.
        constants: What follows the activations among the arguments.
        inputs: Number of activations.
        macs: Multiply-accumulate operations.
    """

    operator: Operator
    variant: Variant
    shape: Any
    constants: tuple[Array, ...]
    inputs: int
    macs: int

    @property
    def kernel(self) -> MicroKernel[Any]:
        """The function."""
        return KERNELS[self.variant][self.operator]

    @property
    def parameters(self) -> tuple[DTypeName, ...]:
        """Element type of each pointer: activations, constants, the result."""
        constants = [dtype_name(array.dtype.name) for array in self.constants]
        inputs: list[DTypeName] = ["int8"] * self.inputs
        if self.operator in _OF_PATCHES:
            inputs[1] = "int64"  # the number of the patch
        return (*inputs, *constants, "int8")

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of arguments that may lie at one address."""
        output = self.inputs + len(self.constants)
        if not self.kernel.in_place(self.shape):
            return ()
        return tuple((number, output) for number in range(self.inputs))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch."""
        return int(self.kernel.scratch_bytes(self.shape))

    def use(self) -> MicroUse:
        """Return what the driver needs to know."""
        return MicroUse(
            function=self.kernel.function,
            source=self.kernel.source,
            structure=_STRUCTURES[self.operator],
            values=tuple(int(v) for v in astuple(self.shape)),
            takes_scratch=self.operator in _WITH_SCRATCH,
        )

    def describe(self) -> str:
        """Return what the kernel is, for people to read."""
        return f"{self.kernel.source.removesuffix('.c').removeprefix('mlopsc_')}"


def micro_call(node: Node, variant: Variant) -> MicroCall | None:
    """Return ``node`` as a call, or None where no function computes it."""
    domain, _, name = node.op.partition("::")
    matcher = _MATCHERS.get(name) if domain in (DOMAIN, PATCH_DOMAIN) else None
    if matcher is None or node.attribute("wide", 0) or node.result.dtype != "int8":
        return None
    found = matcher(node, variant)
    return found if found is not None and found.kernel.applies(found.shape) else None


def _range(node: Node) -> tuple[int, int, int]:
    zero, low, high = (int(node.attribute(name)) for name in ("zero_out", "low", "high"))
    return zero, low, high


def _is_int8(array: Array | None) -> bool:
    return array is not None and array.dtype == np.int8


def _conv(node: Node, variant: Variant) -> MicroCall | None:
    x, w = node.operand(0), node.constant(1)
    if w is None or not _is_int8(w) or w.ndim != 4 or x.dtype != "int8" or x.shape[0] != 1:
        return None
    groups, features = int(node.attribute("group")), w.shape[0]
    channels = x.shape[1]
    operator: Operator = "conv" if groups == 1 else "depthwise"
    if groups not in (1, channels):
        return None
    strides, dilations, pads = (
        [int(v) for v in node.attribute(name)] for name in ("strides", "dilations", "pads")
    )
    out = node.result.shape[2:]
    zero, low, high = _range(node)
    shape = ConvShape(
        channels_in=channels,
        height_in=x.shape[2],
        width_in=x.shape[3],
        channels_out=features,
        height_out=out[0],
        width_out=out[1],
        kernel_height=w.shape[2],
        kernel_width=w.shape[3],
        stride_height=strides[0],
        stride_width=strides[1],
        dilation_height=dilations[0],
        dilation_width=dilations[1],
        pad_top=pads[0],
        pad_left=pads[1],
        zero_in=int(node.attribute("zero_in")),
        zero_out=zero,
        low=low,
        high=high,
        left_shift=int(node.attribute("left_shift")),
        taps=w.shape[2] * w.shape[3],
    )
    operator = _of_weights(operator, variant, shape, w, math.prod(w.shape[1:]))
    packed = KERNELS[variant][operator].pack(w)
    return MicroCall(operator, variant, shape, (packed, *_affine(node)), 1, math.prod(out) * w.size)


def _of_weights(
    operator: Operator, variant: Variant, shape: Any, weights: Array, depth: int
) -> Operator:
    """Return the function for the narrowest weights: 4 bits if all values fit, else 8."""
    narrow = NARROW[operator]
    fits = weights.size > 0 and weights.min() >= -8 and weights.max() <= 7
    applies = depth <= NARROW_DEPTH and KERNELS[variant][narrow].applies(shape)
    return narrow if fits and applies else operator


def _affine(node: Node) -> tuple[Array, Array]:
    """Return bias and multipliers, int32."""
    bias, multipliers = node.constant(2), node.constant(3)
    if bias is None or multipliers is None:
        raise ValueError(f"{node.op}: bias or multipliers are missing")
    return bias, multipliers


def _dense(node: Node, variant: Variant) -> MicroCall | None:
    x, w = node.operand(0), node.constant(1)
    if w is None or not _is_int8(w) or w.ndim != 2 or x.dtype != "int8":
        return None
    rows = math.prod(x.shape[:-1])
    zero, low, high = _range(node)
    shape = DenseShape(
        rows, x.shape[-1], w.shape[1], zero, low, high, int(node.attribute("left_shift"))
    )
    operator = _of_weights("dense", variant, shape, w, x.shape[-1])
    packed = KERNELS[variant][operator].pack(np.ascontiguousarray(w.T))
    return MicroCall(operator, variant, shape, (packed, *_affine(node)), 1, rows * w.size)


def _add(node: Node, variant: Variant) -> MicroCall | None:
    a, b = node.operand(0), node.operand(1)
    if a.shape != b.shape or a.shape != node.result.shape or a.constant is not None:
        return None
    if b.constant is not None or a is b or (a.dtype, b.dtype) != ("int8", "int8"):
        return None
    names = ("multiplier_a", "multiplier_b", "constant", "shift", "low", "high")
    shape = AddShape(math.prod(a.shape), *(int(node.attribute(name)) for name in names))
    return MicroCall("add", variant, shape, (), 2, 0)


def _mean(node: Node, variant: Variant) -> MicroCall | None:
    x = node.operand(0)
    axes = [int(a) for a in node.attribute("axes")]
    if axes != list(range(x.rank - len(axes), x.rank)) or x.dtype != "int8":
        return None
    count = math.prod(x.shape[a] for a in axes)
    zero, low, high = _range(node)
    shape = MeanShape(
        math.prod(x.shape) // count, count, int(node.attribute("zero_in")), zero, low, high,
        int(node.attribute("multiplier")), int(node.attribute("left_shift")),
    )  # fmt: skip
    return MicroCall("mean", variant, shape, (), 1, 0)


def _table(node: Node, variant: Variant) -> MicroCall | None:
    x, table = node.operand(0), node.constant(1)
    if table is None or x.dtype != "int8":
        return None
    return MicroCall("table", variant, TableShape(math.prod(x.shape)), (table,), 1, 0)


def _softmax(node: Node, variant: Variant) -> MicroCall | None:
    x, table = node.operand(0), node.constant(1)
    zero, low, high = _range(node)
    if table is None or x.dtype != "int8" or (low, high) != (-128, 127):
        return None
    count = x.shape[-1]
    shape = SoftmaxShape(math.prod(x.shape) // count, count, zero, int(node.attribute("scale")))
    return MicroCall("softmax", variant, shape, (table.astype(np.uint32),), 1, 0)


def _patch(node: Node, variant: Variant) -> MicroCall | None:
    x = node.operand(0)
    if x.dtype != "int8":
        return None
    pairs = [node.attribute(name) for name in ("step", "origin", "sizes")]
    numbers = [*node.result.shape[1:], node.attribute("columns"), *(n for p in pairs for n in p)]
    numbers += [node.attribute("fill"), node.attribute("channels_last", 0)]
    shape = PatchShape(*map(int, numbers))
    operator: Operator = "extract" if node.op.endswith("Extract") else "border"
    return MicroCall(operator, variant, shape, (), 2, 0)


_MATCHERS: Final[dict[str, Callable[[Node, Variant], MicroCall | None]]] = {
    "Add": _add,
    "Border": _patch,
    "Conv": _conv,
    "Extract": _patch,
    "MatMul": _dense,
    "Mean": _mean,
    "Softmax": _softmax,
    "Table": _table,
}
