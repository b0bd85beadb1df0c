"""The parameters of steps on scores and boxes; docstrings go into the documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlopsc.schema.common import Frozen
from mlopsc.schema.step_types import Axis, Flag, Fraction, Labels, Number, Positive, Size


class Softmax(Frozen):
    """Gives `softmax(x / temperature)` along an axis, in float32 (float64 stays).

    Attributes:
        axis: Number or letter.
        temperature: Above 1 it flattens the distribution, below 1 it sharpens it.
    """

    axis: Axis = -1
    temperature: Positive = 1.0


class Sigmoid(Frozen):
    """Gives `1 / (1 + exp(-x))`, in float32 (float64 stays)."""


class ArgMax(Frozen):
    """Gives the place of the largest element along an axis, the first of equals.

    Attributes:
        axis: Number or letter; it goes away.
        labels: A string for each place, or a text file with one a line: the output is strings.
    """

    axis: Axis = -1
    labels: Labels | None = None


class TopK(Frozen):
    """Gives the `k` largest elements along an axis, the largest first, and their places.

    Of equals the lower place comes first.

    Results: `values`, `classes`.

    Attributes:
        k: How many.
        axis: Number or letter.
        labels: A string for each place, or a text file with one a line: `classes` are strings.
    """

    k: Size
    axis: Axis = -1
    labels: Labels | None = None


class Threshold(Frozen):
    """Says where `x >= value`, as booleans.

    Attributes:
        value: The threshold.
        labels: Two strings, for below and for reached: the output is strings.
    """

    value: Number
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)] | None = None


class Nms(Frozen):
    """Non-maximum suppression: keeps the best of boxes that overlap, class by class.

    Takes `boxes` (`[..., boxes, 4]`) and `scores` (`[..., boxes, classes]`), with at most one axis
    in front, the batch. Of all pairs of box and class whose score is above `score_threshold`, the
    one with the best score is kept, those of the same class that overlap it by more than
    `iou_threshold` are dropped, and so on, until `max_detections` are kept. With `class_agnostic`
    classes do not matter for what is dropped: a box is kept once, in its best class. Of equal
    scores the lower class comes first, then the lower box. What is not used of the outputs is
    zeros, of `classes` -1, of labels an empty string. Each box that may be kept costs a pass over
    all scores.

    Results: `boxes` (as given), `scores`, `classes`, `count` (how many were kept).

    Attributes:
        max_detections: How many are kept at most, and how many rows the outputs have; no more than
            there are pairs of box and class, or boxes with `class_agnostic`.
        iou_threshold: Intersection over union above which two boxes are one.
        score_threshold: Scores up to it are ignored.
        box_format: What the four numbers are: two corners (`xyxy`, `yxyx`), corner and size
            (`xywh`), or centre and size (`cxcywh`).
        class_axis: Axis of `scores` that counts classes, -1 or -2.
        class_agnostic: Whether boxes of other classes are dropped, too.
        labels: A string for each class, or a text file with one a line: `classes` are strings.
    """

    max_detections: Size
    iou_threshold: Fraction = 0.5
    score_threshold: Annotated[float, Field(ge=-1e30, allow_inf_nan=False, strict=True)] = 0.0
    box_format: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    class_axis: Literal[-1, -2] = -1
    class_agnostic: Flag = False
    labels: Labels | None = None
