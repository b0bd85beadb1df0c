"""Converters for skl2onnx of estimators that it converts wrongly or refuses for a detail."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from mlopsc.frontends.sklearn.nodes import Writer

Converter = Callable[[Any, Any, Any], None]


def with_parameters(alias: str, **parameters: Any) -> Converter:
    """Return skl2onnx's own converter, shown the estimator with other parameters.

    For parameters that decide how an answer is held, not what it is: a dense matrix holds the same
    as a sparse one.

    Args:
        alias: skl2onnx's name of the estimator.
        parameters: Values that its converter takes.
    """

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common._registration import get_converter

        model = operator.raw_operator
        changed = {key: to for key, (when, to) in parameters.items() if getattr(model, key) == when}
        operator.raw_operator = copy.copy(model)
        vars(operator.raw_operator).update(changed)
        try:
            get_converter(alias)(scope, operator, container)
        finally:
            operator.raw_operator = model

    return convert


def k_means(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``KMeans`` and ``MiniBatchKMeans``.

    skl2onnx computes x² - 2xc + c², whose rounding is negative beside a centre; its root is NaN.
    """
    writer = Writer(scope, operator, container)
    centers = np.asarray(operator.raw_operator.cluster_centers_)
    name, kind = writer.numbers()
    rows = writer.add("Unsqueeze", [name, writer.constant(np.asarray([1], np.int64))])
    apart = writer.add("Sub", [rows, writer.constant(centers.astype(kind)[np.newaxis])])
    squares = writer.add("Mul", [apart, apart])
    axes = writer.constant(np.asarray([2], np.int64))
    total = writer.add("ReduceSum", [squares, axes], keepdims=0)
    nearest = writer.add("ArgMin", [total], axis=1, keepdims=0)
    writer.finish([nearest, writer.add("Sqrt", [total])])
