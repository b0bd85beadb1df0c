"""Non-maximum suppression of boxes, in core operators: a loop that keeps one box an iteration.

All samples of a batch take the same iteration. The carried value holds the scores that may still be
kept; what is kept or suppressed, or was never above the threshold, is the least float.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlopsc.schema.score_steps import Nms
from mlopsc.steps.graph import Graph
from mlopsc.steps.scores import given_labels
from mlopsc.steps.value import Refusal, Value

_GONE: Final = np.finfo(np.float32).min
_PADDING: Final = -1  # the class of what is not used


def nms(b: Graph, given: dict[str, Value], step: Nms) -> dict[str, Value]:
    """Keep the best of boxes that overlap."""
    boxes, scores = (b.cast(given[name], "float32") for name in ("boxes", "scores"))
    batched = boxes.rank == 3
    if not batched and boxes.rank == 2 and scores.rank == 2:
        boxes, scores = (b.op("Unsqueeze", x, np.array([0], np.int64)) for x in (boxes, scores))
    _check(given, boxes, scores, step)
    if step.class_axis == -1:
        scores = b.transpose(scores, [0, 2, 1])
    classes, count = scores.size(1), scores.size(2)
    labels = given_labels(step.labels, classes, f"scores are {given['scores']}")
    pairs = count if step.class_agnostic else classes * count
    kept = _kept(b, boxes, scores, step, min(step.max_detections, pairs))
    # Rows of a batch: [kept, batch, 1] becomes [batch, kept].
    place, score = (_rows(b, x) for x in kept)
    valid = b.op("Greater", score, step.score_threshold)
    box = b.op("Mod", place, count)
    found = _gather_boxes(b, boxes, box)
    made = {
        "boxes": b.op("Where", b.op("Unsqueeze", valid, np.array([2], np.int64)), found,
                      np.array(0, np.float32)),
        "scores": b.op("Where", valid, score, np.array(0, np.float32)),
        "classes": b.op("Where", valid, b.op("Div", place, count), np.array(_PADDING, np.int64)),
        "count": b.op("ReduceSum", b.cast(valid, "int64"), np.array([1], np.int64), keepdims=0),
    }  # fmt: skip
    if labels is not None:
        made["classes"] = b.look_up(made["classes"], labels)
    if batched:
        return made
    first = np.array([0], np.int64)
    squeezed = {name: b.op("Squeeze", x, first) for name, x in made.items()}
    return {
        name: Value(x.name, x.dtype, x.shape, labels=made[name].labels)
        for name, x in squeezed.items()
    }


def _check(given: dict[str, Value], boxes: Value, scores: Value, step: Nms) -> None:
    shapes = f"boxes are {given['boxes']} and scores are {given['scores']}"
    if boxes.rank != 3 or scores.rank != 3 or boxes.shape[2] != 4:
        raise Refusal(f"{shapes}; expected [boxes, 4] and [boxes, classes], or both with a batch "
                      "in front")  # fmt: skip
    boxes_axis = 1 if step.class_axis == -1 else 2
    if boxes.shape[0] != scores.shape[0] or boxes.shape[1] != scores.shape[boxes_axis]:
        raise Refusal(
            f"{shapes}, with classes on axis {step.class_axis} of scores; expected as many boxes",
            "class_axis says which axis of scores counts classes",
        )


def _rows(b: Graph, x: Value) -> Value:
    """Return ``[batch, kept]`` of ``[kept, batch, 1]``."""
    return b.op("Transpose", b.op("Squeeze", x, np.array([2], np.int64)), perm=[1, 0])


def _gather_boxes(b: Graph, boxes: Value, places: Value) -> Value:
    """Return the boxes at ``places``, ``[batch, n]``, as ``[batch, n, 4]``."""
    spread = b.op("Unsqueeze", places, np.array([2], np.int64))
    four = b.op("Tile", spread, np.array([1, 1, 4], np.int64))
    return b.op("GatherElements", boxes, four, axis=1)


def _corners(b: Graph, boxes: Value, kind: str) -> Value:
    """Return the lower and then the upper corner of each box."""
    first, second = b.several("Split", [boxes], 2, axis=2, num_outputs=2)
    if kind in ("xyxy", "yxyx"):
        low, high = b.op("Min", first, second), b.op("Max", first, second)
    elif kind == "xywh":
        low, high = first, b.op("Add", first, second)
    else:
        half = b.op("Mul", second, 0.5)
        low, high = b.op("Sub", first, half), b.op("Add", first, half)
    return b.op("Concat", low, high, axis=2)


def _area(b: Graph, low: Value, high: Value) -> Value:
    """Return ``[..., 1]``: the product of the sides, none below 0."""
    sides = b.op("Max", b.op("Sub", high, low), 0.0)
    one, other = b.several("Split", [sides], 2, axis=2, num_outputs=2)
    return b.op("Mul", one, other)


def _kept(b: Graph, boxes: Value, scores: Value, step: Nms, most: int) -> list[Value]:
    """Return places (class times boxes plus box) and scores, the best first.

    Args:
        b: The graph.
        boxes: ``[batch, boxes, 4]``.
        scores: ``[batch, classes, boxes]``.
        step: The parameters.
        most: How many are kept at most.
    """
    classes, count = scores.size(1), scores.size(2)
    corners = _corners(b, boxes, step.box_format)
    areas = _area(b, *b.several("Split", [corners], 2, axis=2, num_outputs=2))
    above = b.op("Greater", scores, step.score_threshold)
    start = b.op("Where", above, scores, np.array(_GONE, np.float32))
    class_numbers = b.constant(np.arange(classes, dtype=np.int64).reshape(1, -1, 1))
    box_numbers = b.constant(np.arange(count, dtype=np.int64).reshape(1, 1, -1))
    low, high = b.several("Split", [corners], 2, axis=2, num_outputs=2)
    before = b.placeholder(start)
    with b.body() as nodes:
        flat = b.reshape(before, (scores.shape[0], classes * count))
        place = b.op("ArgMax", flat, axis=1, keepdims=1)
        score = b.op("GatherElements", flat, place, axis=1)
        one = np.array([2], np.int64)
        box = b.op("Mod", place, count)
        chosen = _gather_boxes(b, corners, box)
        chosen_low, chosen_high = b.several("Split", [chosen], 2, axis=2, num_outputs=2)
        shared = _area(b, b.op("Max", low, chosen_low), b.op("Min", high, chosen_high))
        union = b.op("Sub", b.op("Add", areas, _area(b, chosen_low, chosen_high)), shared)
        # Without a division: boxes without an area overlap nothing.
        overlap = b.op("Greater", shared, b.op("Mul", union, step.iou_threshold))
        overlap = b.op("Transpose", overlap, perm=[0, 2, 1])
        itself = b.op("Equal", b.op("Unsqueeze", box, one), box_numbers)
        gone = b.op("Or", overlap, itself)
        if not step.class_agnostic:
            kind = b.op("Unsqueeze", b.op("Div", place, count), one)
            gone = b.op("And", b.op("Equal", kind, class_numbers), gone)
        after = b.op("Where", gone, np.array(_GONE, np.float32), before)
    return b.loop(most, start, (before.name, after.name), [place, score], nodes)
