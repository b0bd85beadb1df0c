"""The kernels for microcontrollers (``kernels/micro``), as the compiler has to know them.

Takes the shape of an integer operator; says for each variant of ``[hardware] micro`` which C file
computes it, in which order that wants the weights, how much scratch it needs and whether the output
may lie where the input lies. Shapes have the fields of the C structures in their order, so
``dataclasses.astuple`` initialises them. What no entry takes is lowered like any other operator.

``kernels/micro/mlopsc_micro.h`` declares the functions; docs/adr/0026-micro-kernels.md says why
they are as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np

Array = np.ndarray[Any, Any]
Variant = Literal["portable", "dsp", "mve"]
Operator = Literal[
    "conv", "depthwise", "dense", "add", "mean", "table", "softmax", "extract", "border"
]

_LANES: Final = 4  # positions of a block: MLOPSC_LANES


@dataclass(frozen=True)
class ConvShape:
    """``mlopsc_conv_shape``: one image, one group or (depthwise) one group per input channel."""

    channels_in: int
    height_in: int
    width_in: int
    channels_out: int
    height_out: int
    width_out: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    pad_top: int
    pad_left: int
    zero_in: int
    zero_out: int
    low: int
    high: int
    left_shift: int
    taps: int

    @property
    def all_taps(self) -> int:
        """Elements of the kernel."""
        return self.kernel_height * self.kernel_width

    @property
    def pointwise(self) -> bool:
        """Whether every output position sees the input position of its own number alone."""
        return (
            self.all_taps == self.stride_height == self.stride_width == 1
            and self.pad_top == self.pad_left == 0
            and (self.height_in, self.width_in) == (self.height_out, self.width_out)
        )


@dataclass(frozen=True)
class DenseShape:
    """``mlopsc_dense_shape``."""

    rows: int
    columns_in: int
    columns_out: int
    zero_out: int
    low: int
    high: int
    left_shift: int


@dataclass(frozen=True)
class AddShape:
    """``mlopsc_add_shape``."""

    elements: int
    multiplier_a: int
    multiplier_b: int
    constant: int
    shift: int
    low: int
    high: int


@dataclass(frozen=True)
class MeanShape:
    """``mlopsc_mean_shape``: the elements of a row are adjacent."""

    rows: int
    count: int
    zero_in: int
    zero_out: int
    low: int
    high: int
    multiplier: int
    left_shift: int


@dataclass(frozen=True)
class TableShape:
    """The one number that ``mlopsc_table_s8`` takes."""

    elements: int


@dataclass(frozen=True)
class SoftmaxShape:
    """``mlopsc_softmax_shape``."""

    rows: int
    count: int
    zero_out: int
    scale: int


@dataclass(frozen=True)
class PatchShape:
    """``mlopsc_patch_shape``."""

    channels: int
    rows: int
    columns: int
    grid_columns: int
    step_rows: int
    step_columns: int
    first_row: int
    first_column: int
    height: int
    width: int
    fill: int
    channels_last: int


S = TypeVar("S")


def _no_scratch(_shape: object) -> int:
    return 0


def _always(_shape: object) -> bool:
    return True


def _never(_shape: object) -> bool:
    return False


def _as_is(weights: Array) -> Array:
    return np.ascontiguousarray(weights).reshape(-1)


@dataclass(frozen=True)
class MicroKernel(Generic[S]):
    """One C function in one variant.

    Attributes:
        function: Its name, the same in every variant.
        source: Its file in ``kernels/micro``; the headers that it includes lie beside it.
        pack: Weights (int8, zero point 0: [channels_out, channels_in or 1, height, width] of a
            convolution, [columns_out, columns_in] of a product) -> int8 array of one axis, in the
            order that the function reads; to be aligned to 4 bytes.
        scratch_bytes: Shape -> bytes of scratch.
        in_place: Shape -> whether the output may start where the (first) input starts.
        applies: Shape -> whether the function computes it.
        align: Alignment of the scratch in bytes.
    """

    function: str
    source: str
    pack: Callable[[Array], Array] = _as_is
    scratch_bytes: Callable[[S], int] = _no_scratch
    in_place: Callable[[S], bool] = _always
    applies: Callable[[S], bool] = _always
    align: int = 4


def _fill_up(weights: Array, multiple: int) -> Array:
    """Fill the last axis up with zeros to a multiple."""
    width = -weights.shape[-1] % multiple
    return np.pad(weights, [*[(0, 0)] * (weights.ndim - 1), (0, width)])


def _taps_first(weights: Array) -> Array:
    """[channels_out, channels_in, height, width] -> [channels_out, all taps * channels_in]."""
    return weights.transpose(0, 2, 3, 1).reshape(weights.shape[0], -1)


def _pack_dense_portable(weights: Array) -> Array:
    """[columns_out, depth] -> each four columns together, depth first; the rest as it is."""
    whole = weights.shape[0] // 4 * 4
    fours = weights[:whole].reshape(-1, 4, weights.shape[1]).transpose(0, 2, 1)
    return np.concatenate([_as_is(fours), _as_is(weights[whole:])])


def _pack_conv_portable(weights: Array) -> Array:
    return _pack_dense_portable(_taps_first(weights))


def _pack_conv_mve(weights: Array) -> Array:
    return _as_is(_taps_first(weights))


def _pack_conv_dsp(weights: Array) -> Array:
    odd = weights.shape[1] % 2 != 0
    rows = weights.reshape(weights.shape[0], -1) if odd else _taps_first(weights)
    fours = _fill_up(rows, 4).reshape(-1, 4)
    return _as_is(fours[:, [0, 2, 1, 3]])


def _pack_depthwise_dsp(weights: Array) -> Array:
    """Rows of three are loaded as words: the last one needs a byte more."""
    return np.pad(_as_is(weights), (0, int(weights.shape[-1] == 3)))


def _pack_dense_dsp(weights: Array) -> Array:
    filled = _fill_up(weights, 4)
    outputs, depth = filled.shape
    whole = outputs // 4 * 4
    fours = filled[:whole].reshape(whole // 4, 4, depth // 4, 4).transpose(0, 2, 1, 3)
    return np.concatenate([_as_is(fours), _as_is(filled[whole:])])


def _sums(shape: ConvShape) -> int:
    """Bytes of the sums that wait while a block's taps are gathered in parts."""
    return 4 * _LANES * shape.channels_out if shape.taps < shape.all_taps else 0


def _conv_scratch_portable(shape: ConvShape) -> int:
    columns = min(shape.taps, shape.all_taps) * shape.channels_in
    channels = -(-shape.channels_out // 4) * 4 if shape.taps < shape.all_taps else 4
    return 4 * _LANES * channels + _LANES * columns


def _conv_scratch_dsp(shape: ConvShape) -> int:
    columns = -(-min(shape.taps, shape.all_taps) * shape.channels_in // 4) * 4
    offsets = 4 * columns if shape.channels_in % 2 else 0
    return _sums(shape) + 2 * _LANES * columns + offsets


def _conv_scratch_mve(shape: ConvShape) -> int:
    """Whole columns, each at a multiple of 16 bytes: the taps are never gathered in parts."""
    return _LANES * -(-shape.all_taps * shape.channels_in // 16) * 16


def _one_group(shape: ConvShape) -> bool:
    return shape.taps >= shape.all_taps or (shape.taps > 0 and shape.channels_in % 4 == 0)


def _plane(shape: ConvShape) -> int:
    """Bytes of a plane of the input with the border that taps reach."""
    height = (shape.height_out - 1) * shape.stride_height
    return (height + (shape.kernel_height - 1) * shape.dilation_height + 1) * _plane_width(shape)


def _plane_width(shape: ConvShape) -> int:
    width = (shape.width_out - 1) * shape.stride_width
    return width + (shape.kernel_width - 1) * shape.dilation_width + 1


def _plane_dsp(shape: ConvShape) -> int:
    """A plane, and a row and three bytes that are read and not used."""
    return _plane(shape) + _plane_width(shape) + 3


def _shrinks(shape: ConvShape) -> bool:
    return (
        shape.channels_in == shape.channels_out
        and shape.height_out * shape.width_out <= shape.height_in * shape.width_in
    )


def _whole_channels(shape: ConvShape) -> bool:
    return shape.channels_out % shape.channels_in == 0


def _pointwise(shape: ConvShape) -> bool:
    return shape.pointwise


_PORTABLE: Final[dict[Operator, MicroKernel[Any]]] = {
    "conv": MicroKernel[ConvShape](
        "mlopsc_conv_s8",
        "mlopsc_conv_s8_portable.c",
        _pack_conv_portable,
        _conv_scratch_portable,
        _pointwise,
        _one_group,
    ),
    "depthwise": MicroKernel[ConvShape](
        "mlopsc_depthwise_s8",
        "mlopsc_depthwise_s8_portable.c",
        _as_is,
        _plane,
        _shrinks,
        _whole_channels,
    ),
    "dense": MicroKernel[DenseShape](
        "mlopsc_dense_s8", "mlopsc_dense_s8_portable.c", _pack_dense_portable, in_place=_never
    ),
    "add": MicroKernel[AddShape]("mlopsc_add_s8", "mlopsc_add_s8_portable.c"),
    "mean": MicroKernel[MeanShape]("mlopsc_mean_s8", "mlopsc_mean_s8_portable.c"),
    "table": MicroKernel[TableShape]("mlopsc_table_s8", "mlopsc_table_s8_portable.c"),
    "softmax": MicroKernel[SoftmaxShape]("mlopsc_softmax_s8", "mlopsc_softmax_s8_portable.c"),
    "extract": MicroKernel[PatchShape](
        "mlopsc_extract_s8", "mlopsc_patch_s8_portable.c", in_place=_never
    ),
    "border": MicroKernel[PatchShape]("mlopsc_border_s8", "mlopsc_patch_s8_portable.c"),
}

# Operator by variant; what a variant does not have of its own is the portable function.
KERNELS: Final[dict[Variant, dict[Operator, MicroKernel[Any]]]] = {
    "portable": _PORTABLE,
    "dsp": {
        **_PORTABLE,
        "conv": replace(
            _PORTABLE["conv"],
            source="mlopsc_conv_s8_dsp.c",
            pack=_pack_conv_dsp,
            scratch_bytes=_conv_scratch_dsp,
        ),
        "depthwise": replace(
            _PORTABLE["depthwise"],
            source="mlopsc_depthwise_s8_dsp.c",
            pack=_pack_depthwise_dsp,
            scratch_bytes=_plane_dsp,
        ),
        "dense": replace(_PORTABLE["dense"], source="mlopsc_dense_s8_dsp.c", pack=_pack_dense_dsp),
        "add": replace(_PORTABLE["add"], source="mlopsc_add_s8_dsp.c"),
        "mean": replace(_PORTABLE["mean"], source="mlopsc_mean_s8_dsp.c"),
    },
    "mve": {
        **_PORTABLE,
        "conv": replace(
            _PORTABLE["conv"],
            source="mlopsc_conv_s8_mve.c",
            pack=_pack_conv_mve,
            scratch_bytes=_conv_scratch_mve,
            applies=_always,
            align=8,
        ),
        "depthwise": replace(_PORTABLE["depthwise"], source="mlopsc_depthwise_s8_mve.c"),
        "dense": replace(_PORTABLE["dense"], source="mlopsc_dense_s8_mve.c", pack=_as_is),
        "add": replace(_PORTABLE["add"], source="mlopsc_add_s8_mve.c"),
        "mean": replace(_PORTABLE["mean"], source="mlopsc_mean_s8_mve.c"),
        "table": replace(_PORTABLE["table"], source="mlopsc_table_s8_mve.c"),
    },
}


def fit_taps(kernel: MicroKernel[ConvShape], shape: ConvShape, limit: int) -> ConvShape:
    """Return ``shape`` with as many taps at a time as fit into ``limit`` bytes of scratch.

    Parts cost time: the limit is what is free anyway while the operator runs. Where nothing fits,
    the shape with the smallest scratch.
    """
    choices = [replace(shape, taps=taps) for taps in range(shape.all_taps, 0, -1)]
    choices = [choice for choice in choices if kernel.applies(choice)]
    fitting = [choice for choice in choices if kernel.scratch_bytes(choice) <= limit]
    return fitting[0] if fitting else min(choices, key=kernel.scratch_bytes)
