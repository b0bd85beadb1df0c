"""Converters for skl2onnx of estimators that it converts wrongly or refuses for a detail."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

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


def one_hot(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``OneHotEncoder``: as skl2onnx does unless rare categories share a column.

    There, skl2onnx stops at categories that are unknown; scikit-learn counts them among the rare.
    """
    model = operator.raw_operator
    if not model._infrequent_enabled:
        from skl2onnx.common._registration import get_converter

        get_converter("SklearnOneHotEncoder")(scope, operator, container)
        return
    writer = Writer(scope, operator, container)
    axes = writer.constant(np.asarray([1], np.int64))
    found = []
    for place, (column, kind) in enumerate(writer.columns()):
        known = list(model.categories_[place])
        rare = model.infrequent_categories_[place]
        rare = [] if rare is None else list(rare)
        columns = list(model._compute_transformed_categories(place))
        shown = [c for c in columns if c in known]
        if shown:
            found.append(_equals(writer, column, shown, kind))
        if len(shown) == len(columns):  # none is rare, or drop leaves their column out
            continue
        if model.handle_unknown == "infrequent_if_exist":
            common = [c for c in known if c not in rare]
            seen = _equals(writer, column, common, kind)
            total = writer.add("ReduceSum", [seen, axes], keepdims=1)
            found.append(writer.add("Sub", [writer.constant(np.float32(1)), total]))
        else:
            seen = _equals(writer, column, rare, kind)
            found.append(writer.add("ReduceSum", [seen, axes], keepdims=1))
    writer.finish([writer.add("Concat", found, axis=1)])


def _equals(writer: Writer, column: str, values: list[Any], kind: type) -> str:
    """Write a column for each of ``values``: 1 where the category is that one."""
    table: Any = np.asarray([values], object if kind is str else kind)
    same = writer.add("Equal", [column, writer.constant(table)])
    return writer.add("Cast", [same], to=onnx.TensorProto.FLOAT)
