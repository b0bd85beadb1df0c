"""Steps on scores: softmax, sigmoid, the best, thresholds; places become strings by labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlopsc.schema.score_steps import ArgMax, Sigmoid, Softmax, Threshold, TopK
from mlopsc.steps.graph import Graph
from mlopsc.steps.value import Refusal, Value


def softmax(b: Graph, x: Value, step: Softmax) -> Value:
    """Give probabilities."""
    axis = x.axis(step.axis)
    x.size(axis)  # one sample has no say in another's
    x = b.as_float(x)
    if step.temperature != 1:
        x = b.op("Div", x, step.temperature)
    return b.op("Softmax", x, axis=axis)


def sigmoid(b: Graph, x: Value, step: Sigmoid) -> Value:
    """Give probabilities of two classes."""
    del step
    return b.op("Sigmoid", b.as_float(x))


def argmax(b: Graph, x: Value, step: ArgMax) -> Value:
    """Give the place of the largest element."""
    axis = x.axis(step.axis)
    _check_numbers(x)
    labels = given_labels(step.labels, x.size(axis), f"axis {step.axis} of {x}")
    place = b.op("ArgMax", x, axis=axis, keepdims=0, layout=x.without(axis))
    return place if labels is None else b.look_up(place, labels, labels[0])


def top_k(b: Graph, x: Value, step: TopK) -> dict[str, Value]:
    """Give the largest elements and their places."""
    axis = x.axis(step.axis)
    _check_numbers(x)
    if step.k > x.size(axis):
        raise Refusal(f"k is {step.k} and axis {step.axis} of {x} has {x.size(axis)} elements")
    labels = given_labels(step.labels, x.size(axis), f"axis {step.axis} of {x}")
    values, places = b.several("TopK", [x, np.array([step.k], np.int64)], 2, axis=axis)
    return {
        "values": values,
        "classes": places if labels is None else b.look_up(places, labels, labels[0]),
    }


def threshold(b: Graph, x: Value, step: Threshold) -> Value:
    """Say where a value is reached."""
    _check_numbers(x)
    reached = b.op("GreaterOrEqual", x, b.number_like(x, step.value, "value"))
    if step.labels is None:
        return reached
    return b.look_up(b.cast(reached, "int64"), step.labels, step.labels[0])


def given_labels(
    labels: Sequence[str] | str | None, count: int, what: str
) -> tuple[str, ...] | None:
    """Return labels, which are one for each class.

    Raises:
        Refusal: They are more or fewer.
    """
    if labels is None:
        return None
    if len(labels) != count:
        raise Refusal(f"there are {len(labels)} labels and {count} classes ({what}); "
                      "expected one label for each")  # fmt: skip
    return tuple(labels)


def _check_numbers(x: Value) -> None:
    if not x.is_float and not x.is_integer:
        raise Refusal(f"the value is {x}; expected numbers")
