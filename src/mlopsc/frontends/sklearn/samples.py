"""Converters for skl2onnx of estimators that answer by comparing with samples they have kept.

skl2onnx 1.20 leaves the weights of neighbours out of probabilities, and takes distances from a
product of matrices, which cancels in float32; its support vector machines have no float64; its
imputer by neighbours calls functions of another opset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from mlopsc.frontends.sklearn.nodes import Writer

Array = np.ndarray[Any, Any]


def neighbours(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``KNeighborsClassifier`` and ``KNeighborsRegressor``."""
    model = operator.raw_operator
    writer = Writer(scope, operator, container)
    name, kind = writer.numbers()
    if model.weights not in (None, "uniform", "distance"):
        raise NotImplementedError("weights of neighbours that a function computes")
    power = _power(model)
    apart = _powers(writer, name, np.asarray(model._fit_X, kind), power)
    count = writer.constant(np.asarray([model.n_neighbors], np.int64))
    nearest, places = writer.several("TopK", [apart, count], 2, axis=1, largest=0, sorted=1)
    weights = None
    if model.weights == "distance":
        weights = _weights(writer, _root(writer, nearest, power, kind), kind)
    classes = getattr(model, "classes_", None)
    if classes is None:
        targets: Array = np.asarray(model._y, kind).reshape(len(model._fit_X), -1)
        writer.finish([_average(writer, places, targets, weights, model.n_neighbors)])
        return
    if isinstance(classes, list):
        raise NotImplementedError("neighbours that classify several outputs at once")
    votes = np.eye(len(classes), dtype=kind)[np.asarray(model._y).ravel()]
    writer.classify(_average(writer, places, votes, weights, model.n_neighbors), classes)


def _power(model: Any) -> float:
    """Return the p of Minkowski's metric; infinite for the largest difference."""
    metric = model.effective_metric_
    known = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": np.inf}
    parameters = dict(model.effective_metric_params_ or {})
    if metric == "minkowski" and parameters.get("w") is None:
        return float(parameters["p"])
    if metric not in known:
        raise NotImplementedError(f"neighbours by the metric {metric}")
    return known[metric]


def _powers(writer: Writer, name: str, samples: Array, power: float) -> str:
    """Write distances to all samples to the power of p, which order as the distances do."""
    rows = writer.add("Unsqueeze", [name, writer.constant(np.asarray([1], np.int64))])
    apart = writer.add("Sub", [rows, writer.constant(samples[np.newaxis])])
    axes = writer.constant(np.asarray([2], np.int64))
    parts = writer.add("Mul", [apart, apart]) if power == 2 else writer.add("Abs", [apart])
    if power == np.inf:
        return writer.add("ReduceMax", [parts, axes], keepdims=0)
    if power not in (1, 2):
        parts = writer.add("Pow", [parts, writer.constant(samples.dtype.type(power))])
    return writer.add("ReduceSum", [parts, axes], keepdims=0)


def _root(writer: Writer, powers: str, power: float, kind: type) -> str:
    if power == 2:
        return writer.add("Sqrt", [powers])
    if power in (1, np.inf):
        return powers
    return writer.add("Pow", [powers, writer.constant(np.asarray(1 / power, kind))])


def _weights(writer: Writer, distances: str, kind: type) -> str:
    """Write the inverse of distances; where one is zero, those that are count alone."""
    code = onnx.TensorProto.DOUBLE if kind is np.float64 else onnx.TensorProto.FLOAT
    zero = writer.constant(np.asarray(0, kind))
    same = writer.add("Cast", [writer.add("Equal", [distances, zero])], to=code)
    axes = writer.constant(np.asarray([1], np.int64))
    some = writer.add("Greater", [writer.add("ReduceMax", [same, axes], keepdims=1), zero])
    return writer.add("Where", [some, same, writer.add("Reciprocal", [distances])])


def _average(writer: Writer, places: str, table: Array, weights: str | None, count: int) -> str:
    """Write the mean of the rows of ``table`` that the neighbours have."""
    rows = writer.add("Gather", [writer.constant(table), places], axis=0)
    axes = writer.constant(np.asarray([1], np.int64))
    if weights is None:
        total = writer.add("ReduceSum", [rows, axes], keepdims=0)
        return writer.add("Div", [total, writer.constant(table.dtype.type(count))])
    last = writer.constant(np.asarray([2], np.int64))
    weighted = writer.add("Mul", [rows, writer.add("Unsqueeze", [weights, last])])
    total = writer.add("ReduceSum", [weighted, axes], keepdims=0)
    return writer.add("Div", [total, writer.add("ReduceSum", [weights, axes], keepdims=1)])


def impute(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``KNNImputer``.

    What is missing in a column is the mean of the nearest samples that have a value there; where no
    sample shares a value with the row, that of all samples.
    """
    model = operator.raw_operator
    if model.weights not in (None, "uniform", "distance") or model.metric != "nan_euclidean":
        raise NotImplementedError("KNNImputer with a function as weights or metric")
    if model.add_indicator or not np.isnan(model.missing_values):
        raise NotImplementedError("KNNImputer with add_indicator, or that fills in other than NaN")
    writer = Writer(scope, operator, container)
    name, kind = writer.numbers()
    samples: Array = np.asarray(model._fit_X, kind)
    apart, missing = _shared_squares(writer, name, samples)
    far = writer.constant(np.asarray(np.finfo(kind).max, kind))
    found = []
    for column, valid in enumerate(model._valid_mask):
        place = writer.constant(np.asarray([column], np.int64))
        if not valid:
            if model.keep_empty_features:
                given = writer.add("Gather", [missing, place], axis=1)
                zero = writer.constant(np.asarray(0, kind))
                found.append(writer.add("Where", [given, zero, zero]))
            continue
        donors = np.flatnonzero(~np.isnan(samples[:, column]))
        count = min(model.n_neighbors, len(donors))
        among = writer.add("Gather", [apart, writer.constant(donors)], axis=1)
        most = writer.constant(np.asarray([count], np.int64))
        nearest, places = writer.several("TopK", [among, most], 2, axis=1, largest=0, sorted=1)
        shares = writer.add("Less", [nearest, far])
        weights = writer.add("Cast", [shares], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
        if model.weights == "distance":
            inverse = _weights(writer, writer.add("Sqrt", [nearest]), kind)
            weights = writer.add("Mul", [weights, inverse])
        values = samples[donors, column]
        mean = _average(writer, places, values[:, np.newaxis], weights, count)
        axes = writer.constant(np.asarray([1], np.int64))
        none = writer.add("Not", [writer.add("ReduceMax", [shares, axes], keepdims=1)])
        overall = writer.constant(np.asarray(values.mean(dtype=np.float64), kind))
        mean = writer.add("Where", [none, overall, mean])
        ends = [writer.add("Gather", [one, place], axis=1) for one in (missing, name)]
        found.append(writer.add("Where", [ends[0], mean, ends[1]]))
    writer.finish([writer.add("Concat", found, axis=1)])


def _shared_squares(writer: Writer, name: str, samples: Array) -> tuple[str, str]:
    """Write squared distances over the features that row and sample both have, and what is missing.

    The largest number stands for the distance of those that share none.
    """
    kind = samples.dtype.type
    one, zero = (writer.constant(np.asarray(value, kind)) for value in (1, 0))
    axes = [writer.constant(np.asarray([axis], np.int64)) for axis in (1, 2)]
    known: Array = (~np.isnan(samples)).astype(kind)
    missing = writer.add("IsNaN", [name])
    rows = writer.add("Unsqueeze", [writer.add("Where", [missing, zero, name]), axes[0]])
    has = writer.add("Unsqueeze", [writer.add("Where", [missing, zero, one]), axes[0]])
    both = writer.add("Mul", [has, writer.constant(known[np.newaxis])])
    apart = writer.add("Sub", [rows, writer.constant(np.nan_to_num(samples)[np.newaxis])])
    squares = writer.add("Mul", [writer.add("Mul", [apart, apart]), both])
    total = writer.add("ReduceSum", [squares, axes[1]], keepdims=0)
    count = writer.add("ReduceSum", [both, axes[1]], keepdims=0)
    scaled = writer.add("Mul", [total, writer.constant(np.asarray(samples.shape[1], kind))])
    near = writer.add("Div", [scaled, writer.add("Max", [count, one])])
    far = writer.constant(np.asarray(np.finfo(kind).max, kind))
    return writer.add("Where", [writer.add("Greater", [count, zero]), near, far]), missing


def support_vectors(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``SVR``, ``NuSVR`` and ``OneClassSVM``: in float32 as skl2onnx does."""
    model = operator.raw_operator
    writer = Writer(scope, operator, container)
    name, kind = writer.numbers()
    if kind is np.float32:
        from skl2onnx.common._registration import get_converter

        get_converter(f"Sklearn{type(model).__name__}")(scope, operator, container)
        return
    likeness = _kernel(writer, model, name, kind)
    weights = writer.constant(np.asarray(model.dual_coef_, kind).reshape(1, -1).T)
    total = writer.add("MatMul", [likeness, weights])
    total = writer.add("Add", [total, writer.constant(np.asarray(model.intercept_, kind))])
    if type(model).__name__ != "OneClassSVM":
        writer.finish([total])
        return
    inside = writer.add("Greater", [total, writer.constant(np.asarray(0, kind))])
    sides = [writer.constant(np.asarray(side, np.int64)) for side in (1, -1)]
    writer.finish([writer.add("Where", [inside, *sides]), total])


def _kernel(writer: Writer, model: Any, name: str, kind: type) -> str:
    """Write how like its support vectors a row is."""
    vectors: Array = np.asarray(model.support_vectors_, kind)
    gamma = float(model._gamma)
    if model.kernel == "rbf":
        squares = _powers(writer, name, vectors, 2.0)
        scaled = writer.add("Mul", [squares, writer.constant(np.asarray(-gamma, kind))])
        return writer.add("Exp", [scaled])
    product = writer.add("MatMul", [name, writer.constant(np.ascontiguousarray(vectors.T))])
    if model.kernel == "linear":
        return product
    scaled = writer.add("Mul", [product, writer.constant(np.asarray(gamma, kind))])
    moved = writer.add("Add", [scaled, writer.constant(np.asarray(float(model.coef0), kind))])
    if model.kernel == "poly":
        degree = writer.constant(np.asarray(float(model.degree), kind))
        return writer.add("Pow", [moved, degree])
    if model.kernel == "sigmoid":
        return writer.add("Tanh", [moved])
    raise NotImplementedError(f"support vectors with the kernel {model.kernel}")
