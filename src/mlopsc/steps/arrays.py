"""Steps on arrays of any kind: layout and shape, type, scaling, quantisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlopsc.schema.array_steps import (
    Cast,
    ChangeLayout,
    Clip,
    Dequantise,
    Normalise,
    OneHot,
    Quantise,
    Reshape,
    Scale,
    Slice,
    Standardise,
    Transpose,
)
from mlopsc.steps.graph import Graph, exact
from mlopsc.steps.value import Refusal, Shape, Value, check_size, elements

_QUANTISED = ("int8", "uint8", "int16", "uint16", "int32")


def change_layout(b: Graph, x: Value, step: ChangeLayout) -> Value:
    """Move the axes; new letters become axes of size 1, letters left out go away."""
    if x.layout is None:
        raise Refusal(f"the value is {x}; expected a layout", "give the input a layout: NHWC")
    if len(set(step.to)) != len(step.to):
        raise Refusal(f"to is {step.to}; expected each letter once")
    gone = [letter for letter in x.layout if letter not in step.to]
    for letter in gone:
        if x.shape[x.axis(letter)] != 1:
            raise Refusal(f"to is {step.to}, without '{letter}' of {x}; expected size 1")
    kept = "".join(letter for letter in x.layout if letter in step.to)
    if gone:
        axes = np.array([x.axis(letter) for letter in gone], np.int64)
        x = _with_layout(b.op("Squeeze", x, axes), kept)
    order = sorted(range(len(kept)), key=lambda axis: step.to.index(kept[axis]))
    x = b.transpose(x, order)
    new = [axis for axis, letter in enumerate(step.to) if letter not in kept]
    if new:
        if isinstance(x.shape[0] if x.shape else 1, str) and 0 in new:
            raise Refusal(f"to is {step.to}; expected the batch first, as in {x}")
        x = b.op("Unsqueeze", x, np.array(new, np.int64))
    _check_batch(x, f"to is {step.to}")
    return _with_layout(x, step.to)


def _with_layout(x: Value, layout: str | None) -> Value:
    return Value(x.name, x.dtype, x.shape, layout)


def _check_batch(x: Value, what: str) -> None:
    if any(isinstance(size, str) for size in x.shape[1:]):
        raise Refusal(f"{what}, which gives {list(x.shape)}; expected the batch first")


def transpose(b: Graph, x: Value, step: Transpose) -> Value:
    """Move the axes."""
    if sorted(step.axes) != list(range(x.rank)):
        raise Refusal(f"axes are {list(step.axes)} and the value is {x}; "
                      f"expected 0 to {x.rank - 1}, each once")  # fmt: skip
    x = b.transpose(x, step.axes)
    _check_batch(x, f"axes are {list(step.axes)}")
    return x


def reshape(b: Graph, x: Value, step: Reshape) -> Value:
    """Give the elements another shape."""
    batch = x.shape[0] if x.shape and isinstance(x.shape[0], str) else None
    names = [size for size in step.shape if isinstance(size, str)]
    wrong = f"shape is {list(step.shape)} and the value is {x}"
    if names != ([batch] if batch else []) or (batch and step.shape[0] != batch):
        raise Refusal(f"{wrong}; expected " + (f"'{batch}' first" if batch else "numbers"))
    sizes = [size for size in step.shape if isinstance(size, int)]
    known = math.prod(size for size in sizes if size != -1)
    count, free = elements(x.shape), sizes.count(-1)
    if free > 1 or 0 in sizes or (count % known if free else count != known):
        raise Refusal(f"{wrong}, of {count} elements; expected sizes from 1 on that multiply to it")
    if step.layout is not None and len(set(step.layout)) != len(step.shape):
        raise Refusal(f"layout is {step.layout}; expected a letter for each of {list(step.shape)}")
    shape: Shape = tuple(count // known if size == -1 else size for size in step.shape)
    return b.reshape(x, shape, step.layout)


def cut(b: Graph, x: Value, step: Slice) -> Value:
    """Keep a part of one axis."""
    axis = x.axis(step.axis)
    size = x.size(axis)
    start, stop, _ = slice(step.start, step.stop).indices(size)
    if start >= stop or not -size <= step.start or not -size <= (step.stop or 0) <= size:
        raise Refusal(
            f"start is {step.start} and stop is {step.stop}, and axis {step.axis} has {size} "
            "elements; expected a part of them"
        )
    return b.part(x, axis, start, stop)


def cast(b: Graph, x: Value, step: Cast) -> Value:
    """Change the type; floats saturate."""
    if x.is_float and step.dtype in ("int2", "uint2", "int4", "uint4"):
        raise Refusal(f"dtype is {step.dtype} and the value is {x}; expected 8 bits or more",
                      "use 'quantise', or cast to int8 first")  # fmt: skip
    if x.is_float and "int" in step.dtype:
        wide = b.as_float(x)
        low, high = _limits(step.dtype, np.dtype(wide.dtype))
        x = b.op("Clip", wide, np.array(low, wide.dtype), np.array(high, wide.dtype))
    return b.cast(x, step.dtype)


def _limits(integer: str, floating: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the greatest float that an integer type holds."""
    low, high = np.iinfo(integer).min, np.iinfo(integer).max
    least, greatest = floating.type(low), floating.type(high)
    if int(greatest) > high:
        greatest = np.nextafter(greatest, floating.type(0))
    return float(least), float(greatest)


def clip(b: Graph, x: Value, step: Clip) -> Value:
    """Keep values within limits."""
    low = None if step.min is None else b.number_like(x, step.min, "min")
    high = None if step.max is None else b.number_like(x, step.max, "max")
    return b.op("Clip", x, low, high)


def scale(b: Graph, x: Value, step: Scale) -> Value:
    """Multiply, divide and add."""
    x = b.as_float(x)
    for op, number, nothing in (
        ("Mul", step.multiply, 1),
        ("Div", step.divide, 1),
        ("Add", step.add, 0),
    ):
        if number != nothing:
            x = b.op(op, x, number)
    return x


def normalise(b: Graph, x: Value, step: Normalise) -> Value:
    """Subtract a mean and divide by a deviation, for each channel."""
    chosen = step.axis if step.axis is not None else ("C" if x.layout else -1)
    x = b.as_float(x)
    parameters = []
    for what, given in (("mean", step.mean), ("std", step.std)):
        numbers = exact(given, x.dtype)
        if numbers.ndim:
            axis = x.axis(chosen)
            if len(numbers) != x.size(axis):
                raise Refusal(
                    f"{what} has {len(numbers)} numbers and axis {chosen} of {x} has "
                    f"{x.size(axis)}; expected one for each"
                )
            numbers = numbers.reshape([-1 if a == axis else 1 for a in range(x.rank)])
        if what == "std" and not (numbers != 0).all():
            raise Refusal(f"std is {given}; expected numbers other than 0")
        parameters.append(numbers)
    return b.op("Div", b.op("Sub", x, parameters[0]), parameters[1])


def standardise(b: Graph, x: Value, step: Standardise) -> Value:
    """Give each sample mean 0 and variance 1."""
    x = b.as_float(x)
    axes = x.sample_axes if step.axes is None else [x.axis(axis) for axis in step.axes]
    if not axes or len(set(axes)) != len(axes):
        raise Refusal(f"axes are {list(step.axes or ())} of {x}; expected at least one, each once")
    for axis in axes:
        x.size(axis)  # one sample has no say in another's
    over = np.array(sorted(axes), np.int64)
    centred = b.op("Sub", x, b.op("ReduceMean", x, over, keepdims=1))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), over, keepdims=1)
    return b.op("Div", centred, b.op("Max", b.op("Sqrt", variance), step.epsilon))


def one_hot(b: Graph, x: Value, step: OneHot) -> Value:
    """Give a new axis with 1 at the place of the integer."""
    if not x.is_integer:
        raise Refusal(f"the value is {x}; expected integers", "cast it to int64 first")
    if not -x.rank - 1 <= step.axis <= x.rank:
        raise Refusal(f"axis is {step.axis} and the value is {x}; "
                      f"expected {-x.rank - 1} to {x.rank}")  # fmt: skip
    axis = step.axis % (x.rank + 1)
    if axis == 0 and x.shape and isinstance(x.shape[0], str):
        raise Refusal(f"axis is {step.axis} and the value is {x}; expected the batch first")
    check_size((*x.shape, step.depth))
    spread = b.op("Unsqueeze", b.cast(x, "int64"), np.array([axis], np.int64))
    places = np.arange(step.depth).reshape([-1 if a == axis else 1 for a in range(x.rank + 1)])
    made = b.cast(b.op("Equal", spread, places), step.dtype)
    letter = None if x.layout is None or "C" in x.layout else "C"
    layout = x.layout and letter and x.layout[:axis] + letter + x.layout[axis:]
    return _with_layout(made, layout)


def quantise(b: Graph, x: Value, step: Quantise) -> Value:
    """Round to integers in steps."""
    zero = _zero_point(step.zero_point, step.dtype)
    x = b.cast(b.as_float(x), "float32")
    return b.op("QuantizeLinear", x, exact(step.scale, "float32"), zero)


def dequantise(b: Graph, x: Value, step: Dequantise) -> Value:
    """Give the numbers that integers stand for."""
    if x.dtype not in _QUANTISED:
        raise Refusal(f"the value is {x}; expected {', '.join(_QUANTISED)}")
    zero = _zero_point(step.zero_point, x.dtype)
    if x.dtype == "int32" and step.zero_point == 0:
        zero = None  # ONNX knows none of this type
    return b.op("DequantizeLinear", x, exact(step.scale, "float32"), zero)


def _zero_point(number: int, dtype: str) -> np.ndarray[Any, Any] | None:
    limits = np.iinfo(dtype)
    if not limits.min <= number <= limits.max or (dtype == "int32" and number):
        allowed = "0" if dtype == "int32" else f"{limits.min} to {limits.max}"
        raise Refusal(f"zero_point is {number} of {dtype}; expected {allowed}")
    return np.array(number, dtype)
