"""``ai.onnx.ml``: linear models. Source: the ONNX operator schemas and ONNX Runtime's kernels."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor
from mlopsc.importer.normalise.expansions.ml_features import rows
from mlopsc.importer.normalise.expansions.ml_labels import class_labels
from mlopsc.importer.normalise.expansions.ml_scores import (
    label_if,
    label_of_largest,
    post_transform,
    transform,
    two_classes,
)


def _scores(b: Builder, targets: int, intercepts: list[float]) -> Tensor:
    """Return ``x @ coefficients.T + intercepts`` (samples x targets)."""
    x = rows(b.required(0)).cast(ir.DataType.FLOAT)
    coefficients = np.array(b.attribute("coefficients") or (), np.float32)
    if targets < 1 or coefficients.size != targets * x.shape[1]:
        raise Refusal(
            f"it has {coefficients.size} coefficients for {targets} targets and {x.shape[1]} "
            "features"
        )
    weights = np.ascontiguousarray(coefficients.reshape(targets, -1).T)
    bias = np.array(intercepts, np.float32) if len(intercepts) == targets else None
    return b.op("Gemm", x, weights, bias)


def _linear_regressor(b: Builder) -> Tensor:
    targets = int(b.attribute("targets", 1))
    scores = _scores(b, targets, b.attribute("intercepts") or [])
    name = post_transform(b)
    # The runtime transforms a single score only by PROBIT.
    return scores if targets == 1 and name != "PROBIT" else transform(b, scores, name)


def _linear_classifier(b: Builder) -> list[Tensor]:
    intercepts, labels = b.attribute("intercepts") or [], class_labels(b, "classlabels_ints")
    scores, name = _scores(b, len(intercepts), intercepts), post_transform(b)
    if len(labels) != max(2, len(intercepts)):
        raise Refusal(f"it has {len(labels)} 'classlabels_ints' for {len(intercepts)} intercepts")
    if len(intercepts) == 1:
        label = label_if(b, scores > 0.0, labels[1], labels[0])
        return [label, two_classes(b, scores, name, shares=True)]
    return [label_of_largest(b, scores, labels), transform(b, scores, name)]


EXPANSIONS: Final[dict[str, Expansion]] = {
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
}
