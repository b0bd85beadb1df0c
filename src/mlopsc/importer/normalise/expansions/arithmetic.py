"""Sums, means and other plain arithmetic. Source: the ONNX operator schemas.

Sums add from the left. ``Dropout`` outside training passes its input on, with a mask of true.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlopsc.importer.normalise.expansions.builder import (
    Builder,
    Expansion,
    Refusal,
    Tensor,
    total,
)

MAX_RANGE: Final = 1 << 25  # elements of a constant


def _sum(b: Builder) -> Tensor:
    return total(b.inputs())


def _mean(b: Builder) -> Tensor:
    return _sum(b) / len(b.inputs())


def _dropout(b: Builder) -> list[Tensor]:
    x = b.required(0)
    ratio, training = b.array(1, "the ratio"), b.array(2, "the training mode")
    drops = ratio is None or float(ratio) != 0.0
    if training is not None and bool(training) and drops:
        raise Refusal("it draws random numbers in training; expected training_mode 0 or ratio 0")
    return [x, b.constant(np.ones(x.shape, np.bool_))]


def _constant_of_shape(b: Builder) -> Tensor:
    """Repeat the value at run time: what is small enough has been folded."""
    shape = b.array(0, "the shape")
    value = b.attribute("value")
    element = np.zeros(1, np.float32) if value is None else value.numpy()
    return b.constant(element.reshape(())).expand(*(() if shape is None else shape.tolist()))


def _clip(b: Builder) -> Tensor | None:
    """With limits that are computed; with constant ones it is a core operator."""
    x, low, high = b.required(0), b.input(1), b.input(2)
    if all(limit is None or limit.array is not None for limit in (low, high)):
        return None
    result = x if low is None else b.op("Max", x, low.reshape())
    return result if high is None else b.op("Min", result, high.reshape())


def _range(b: Builder) -> Tensor:
    limits = [b.array(k, what) for k, what in enumerate(("the start", "the limit", "the step"))]
    start, limit, step = (np.asarray(v).reshape(()).item() for v in limits)
    dtype = b.required(0).dtype
    if step == 0:
        raise Refusal("its step is 0")
    exact = isinstance(step, int)
    if not all(np.isfinite(v) for v in (start, limit, step)):
        raise Refusal(f"its limits are {start}, {limit} and {step}; expected finite numbers")
    count = -((start - limit) // step) if exact else int(np.ceil((limit - start) / step))
    if count > MAX_RANGE:
        raise Refusal(f"it has {count} elements; expected at most {MAX_RANGE}")
    steps = np.arange(max(count, 0), dtype=np.int64 if exact else np.float64)
    return b.constant(start + steps * step, dtype)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "ConstantOfShape": _constant_of_shape,
    "Clip": _clip,
    "Dropout": _dropout,
    "Mean": _mean,
    "Range": _range,
    "Sum": _sum,
}
