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

from mlopsc.lower import micro_pack as orders
from mlopsc.lower.micro_pack import Array

Variant = Literal["portable", "dsp", "mve"]
Operator = Literal[
    "conv", "depthwise", "dense", "conv_s4", "depthwise_s4", "dense_s4",
    "add", "mean", "table", "softmax", "extract", "border",
]  # fmt: skip

_LANES: Final = 4  # positions of a block: MLOPSC_LANES

# Those with weights of 8 bits, and the same with weights of 4 bits, two in a byte.
NARROW: Final[dict[Operator, Operator]] = {
    "conv": "conv_s4", "depthwise": "depthwise_s4", "dense": "dense_s4"
}  # fmt: skip
# Products in a sum with weights of 4 bits: 16 times the sum (x up to 128, w up to 8) fits 32 bits.
NARROW_DEPTH: Final = (1 << 17) - 1


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


@dataclass(frozen=True)
class MicroKernel(Generic[S]):
    """One C function in one variant.

    Attributes:
        function: Its name, the same in every variant.
        source: Its file in ``kernels/micro``; the headers that it includes lie beside it.
        pack: Weights (int8, zero point 0: [channels_out, channels_in or 1, height, width] of a
            convolution, [columns_out, columns_in] of a product) -> int8 array of one axis, in the
            order that the function reads; to be aligned to 4 bytes. Functions for weights of 4 bits
            read two from each byte.
        scratch_bytes: Shape -> bytes of scratch.
        in_place: Shape -> whether the output may start where the (first) input starts.
        applies: Shape -> whether the function computes it.
        align: Alignment of the scratch in bytes.
    """

    function: str
    source: str
    pack: Callable[[Array], Array] = orders.as_is
    scratch_bytes: Callable[[S], int] = _no_scratch
    in_place: Callable[[S], bool] = _always
    applies: Callable[[S], bool] = _always
    align: int = 4


def _sums(shape: ConvShape) -> int:
    """Bytes of the sums that wait while a block's taps are gathered in parts."""
    return 4 * _LANES * shape.channels_out if shape.taps < shape.all_taps else 0


def _conv_scratch_portable(shape: ConvShape) -> int:
    columns = min(shape.taps, shape.all_taps) * shape.channels_in
    channels = -(-shape.channels_out // 4) * 4 if shape.taps < shape.all_taps else 4
    return 4 * _LANES * channels + _LANES * columns


def _conv_scratch_dsp(shape: ConvShape, word: int = 4) -> int:
    columns = -(-min(shape.taps, shape.all_taps) * shape.channels_in // word) * word
    offsets = 4 * columns if shape.channels_in % 2 else 0
    return _sums(shape) + 2 * _LANES * columns + offsets


def _conv_scratch_mve(shape: ConvShape, vector: int = 16) -> int:
    """Whole columns, each at a multiple of a vector: the taps are never gathered in parts."""
    return _LANES * -(-shape.all_taps * shape.channels_in // vector) * vector


def _conv_scratch_s4_dsp(shape: ConvShape) -> int:
    return _conv_scratch_dsp(shape, 8)


def _conv_scratch_s4_mve(shape: ConvShape) -> int:
    return _conv_scratch_mve(shape, 32)


def _one_group(shape: ConvShape, word: int = 4) -> bool:
    return shape.taps >= shape.all_taps or (shape.taps > 0 and shape.channels_in % word == 0)


def _one_group_s4_dsp(shape: ConvShape) -> bool:
    return _one_group(shape, 8)


def _even_columns(shape: DenseShape) -> bool:
    return shape.columns_in % 2 == 0


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


def _plane_s4(shape: ConvShape) -> int:
    """A plane, and the weights of a channel in 8 bits."""
    return _plane(shape) + shape.all_taps


def _plane_s4_dsp(shape: ConvShape) -> int:
    """The same with what is read and not used between them."""
    return _plane_dsp(shape) + shape.all_taps


def _shrinks(shape: ConvShape) -> bool:
    return (
        shape.channels_in == shape.channels_out
        and shape.height_out * shape.width_out <= shape.height_in * shape.width_in
    )


def _whole_channels(shape: ConvShape) -> bool:
    return shape.channels_out % shape.channels_in == 0


def _pointwise(shape: ConvShape) -> bool:
    return shape.pointwise


_PORTABLE_S8: Final[dict[Operator, MicroKernel[Any]]] = {
    "conv": MicroKernel[ConvShape](
        "mlopsc_conv_s8",
        "mlopsc_conv_s8_portable.c",
        orders.pack_conv_portable,
        _conv_scratch_portable,
        _pointwise,
        _one_group,
    ),
    "depthwise": MicroKernel[ConvShape](
        "mlopsc_depthwise_s8",
        "mlopsc_depthwise_s8_portable.c",
        orders.as_is,
        _plane,
        _shrinks,
        _whole_channels,
    ),
    "dense": MicroKernel[DenseShape](
        "mlopsc_dense_s8",
        "mlopsc_dense_s8_portable.c",
        orders.pack_dense_portable,
        in_place=_never,
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


def _s4(kernel: MicroKernel[Any], pack: Callable[[Array], Array], **changes: Any) -> Any:
    """Return the function that is ``kernel`` for weights of 4 bits."""
    function, source = (n.replace("_s8", "_s4") for n in (kernel.function, kernel.source))
    return replace(kernel, function=function, source=source, pack=pack, **changes)


_PORTABLE: Final[dict[Operator, MicroKernel[Any]]] = {
    **_PORTABLE_S8,
    "conv_s4": _s4(_PORTABLE_S8["conv"], orders.pack_conv_s4_portable),
    "depthwise_s4": _s4(
        _PORTABLE_S8["depthwise"], orders.pack_depthwise_s4, scratch_bytes=_plane_s4
    ),
    "dense_s4": _s4(_PORTABLE_S8["dense"], orders.pack_dense_s4_portable),
}

_DSP_S8: Final[dict[Operator, MicroKernel[Any]]] = {
    "conv": replace(
        _PORTABLE["conv"],
        source="mlopsc_conv_s8_dsp.c",
        pack=orders.pack_conv_dsp,
        scratch_bytes=_conv_scratch_dsp,
    ),
    "depthwise": replace(
        _PORTABLE["depthwise"],
        source="mlopsc_depthwise_s8_dsp.c",
        scratch_bytes=_plane_dsp,
    ),
    "dense": replace(
        _PORTABLE["dense"], source="mlopsc_dense_s8_dsp.c", pack=orders.pack_dense_dsp
    ),
    "add": replace(_PORTABLE["add"], source="mlopsc_add_s8_dsp.c"),
    "mean": replace(_PORTABLE["mean"], source="mlopsc_mean_s8_dsp.c"),
}
_MVE_S8: Final[dict[Operator, MicroKernel[Any]]] = {
    "conv": replace(
        _PORTABLE["conv"],
        source="mlopsc_conv_s8_mve.c",
        pack=orders.pack_conv_mve,
        scratch_bytes=_conv_scratch_mve,
        applies=_always,
        align=8,
    ),
    "depthwise": replace(_PORTABLE["depthwise"], source="mlopsc_depthwise_s8_mve.c"),
    "dense": replace(_PORTABLE["dense"], source="mlopsc_dense_s8_mve.c", pack=orders.as_is),
    "add": replace(_PORTABLE["add"], source="mlopsc_add_s8_mve.c"),
    "mean": replace(_PORTABLE["mean"], source="mlopsc_mean_s8_mve.c"),
    "table": replace(_PORTABLE["table"], source="mlopsc_table_s8_mve.c"),
}

# Operator by variant; what a variant does not have of its own is the portable function.
KERNELS: Final[dict[Variant, dict[Operator, MicroKernel[Any]]]] = {
    "portable": _PORTABLE,
    "dsp": {
        **_PORTABLE,
        **_DSP_S8,
        "conv_s4": _s4(
            _DSP_S8["conv"],
            orders.pack_conv_s4_dsp,
            scratch_bytes=_conv_scratch_s4_dsp,
            applies=_one_group_s4_dsp,
        ),
        "depthwise_s4": _s4(
            _DSP_S8["depthwise"], orders.pack_depthwise_s4, scratch_bytes=_plane_s4_dsp
        ),
        "dense_s4": _s4(_DSP_S8["dense"], orders.pack_dense_s4_dsp),
    },
    "mve": {
        **_PORTABLE,
        **_MVE_S8,
        "conv_s4": _s4(
            _MVE_S8["conv"], orders.pack_conv_s4_mve, scratch_bytes=_conv_scratch_s4_mve
        ),
        "depthwise_s4": _s4(
            _MVE_S8["depthwise"], orders.pack_depthwise_s4, scratch_bytes=_plane_s4
        ),
        "dense_s4": _s4(_MVE_S8["dense"], orders.pack_dense_s4_mve, applies=_even_columns),
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
