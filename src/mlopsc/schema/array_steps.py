"""The parameters of steps on arrays of any kind; docstrings go into the documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlopsc.dtypes import DTypeName
from mlopsc.schema.common import Frozen
from mlopsc.schema.step_types import MOST, Axis, Layout, Number, Place, Positive, Size, Text


class ChangeLayout(Frozen):
    """Moves the axes to another layout.

    `C`, `N` and other letters that are new become axes of size 1; letters that are left out must be
    of size 1.

    Attributes:
        to: Letters of the axes afterwards, such as `NCHW`.
    """

    to: Layout


class Transpose(Frozen):
    """Moves the axes, by number.

    Attributes:
        axes: For each axis afterwards, which one it was.
    """

    axes: tuple[Place, ...]


class Reshape(Frozen):
    """Gives the elements another shape, in the same order.

    Attributes:
        shape: Sizes; one may be -1, which takes what is left. A symbolic batch stays the first, by
            its name.
        layout: Letters of the axes afterwards.
    """

    shape: tuple[Annotated[int, Field(ge=-1, le=MOST, strict=True)] | Text, ...]
    layout: Layout | None = None


class Slice(Frozen):
    """Keeps the elements from `start` to before `stop` along one axis.

    Attributes:
        axis: Number or letter.
        start: First element; negative numbers count from the end.
        stop: Element after the last; the end by default.
    """

    axis: Axis
    start: Place = 0
    stop: Place | None = None


class Cast(Frozen):
    """Changes the type. Floats become integers by dropping the fraction and saturating.

    Integers that the type does not hold wrap around, as in NumPy: 300 becomes 44 in `uint8`. Use
    `clip` in front to keep them within its limits.

    Attributes:
        dtype: The type afterwards.
    """

    dtype: DTypeName


class Clip(Frozen):
    """Keeps values within limits; keeps the type.

    Attributes:
        min: Least value.
        max: Greatest value.
    """

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _check_limits(self) -> Clip:
        if self.min is None and self.max is None:
            raise ValueError("expected 'min', 'max' or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max is {self.max:g}; expected min <= max")
        return self


class Scale(Frozen):
    """Gives `x * multiply / divide + add`, in float32 (float64 stays).

    Attributes:
        multiply: Factor.
        divide: Divisor.
        add: Summand.
    """

    multiply: Number = 1.0
    divide: Number = 1.0
    add: Number = 0.0

    @model_validator(mode="after")
    def _check_divisor(self) -> Scale:
        if self.divide == 0:
            raise ValueError("divide is 0; expected another number")
        return self


class Normalise(Frozen):
    """Gives `(x - mean) / std` for each channel, in float32 (float64 stays).

    Attributes:
        mean: One number, or one for each channel.
        std: One number, or one for each channel; not 0.
        axis: Of the channels; `C` of the layout, or the last axis where there is no layout.
    """

    mean: Number | tuple[Number, ...]
    std: Number | tuple[Number, ...]
    axis: Axis | None = None


class Standardise(Frozen):
    """Gives each sample mean 0 and variance 1: `(x - mean) / max(std, epsilon)`.

    Mean and (population) standard deviation are taken over the sample: all axes but `N`, or all but
    the first where there is no layout and more than one axis. Gives float32 (float64 stays).

    Attributes:
        axes: Take mean and deviation over these axes instead.
        epsilon: Least divisor, so that a constant sample becomes zeros.
    """

    axes: tuple[Axis, ...] | None = None
    epsilon: Positive = 1e-7


class OneHot(Frozen):
    """Gives a new axis with 1 at the place that an integer says and 0 elsewhere.

    An integer outside 0 to `depth` - 1 gives zeros.

    Attributes:
        depth: Size of the new axis.
        axis: Where the new axis goes; the last by default.
        dtype: The type afterwards.
    """

    depth: Size
    axis: Place = -1
    dtype: DTypeName = "float32"


class Quantise(Frozen):
    """Gives `saturate(round(x / scale) + zero_point)`, halves to even; ONNX's `QuantizeLinear`.

    Attributes:
        scale: Step between integers.
        zero_point: The integer for 0.
        dtype: The type afterwards.
    """

    scale: Positive
    zero_point: Place = 0
    dtype: Literal["int8", "uint8", "int16", "uint16"] = "int8"


class Dequantise(Frozen):
    """Gives `(x - zero_point) * scale` of integers, in float32; ONNX's `DequantizeLinear`.

    Attributes:
        scale: Step between integers.
        zero_point: The integer for 0.
    """

    scale: Positive
    zero_point: Place = 0
