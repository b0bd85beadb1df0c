"""``ai.onnx.ml``: what follows a model's scores: transforms of them, and the label they choose.

Source: the ONNX operator schemas and, where they are silent, ONNX Runtime's kernels
(``ml_common.h``), whose formulas these are, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Refusal, Tensor

FLOAT = ir.DataType.FLOAT
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
_ALMOST_ZERO = 1e-7
_ERF_INV = 0.147  # of Winitzki's approximation


def post_transform(b: Builder) -> str:
    """Return the attribute of this name."""
    name = b.attribute("post_transform", "NONE")
    name = name.decode() if isinstance(name, bytes) else name
    if name not in TRANSFORMS:
        raise Refusal(f"'post_transform' is '{name}'; expected one of {', '.join(TRANSFORMS)}")
    return str(name)


def transform(b: Builder, scores: Tensor, name: str) -> Tensor:
    """Return scores (samples x classes) transformed, as float32."""
    x = scores.cast(FLOAT)
    if name == "LOGISTIC":
        return logistic(b, x)
    if name == "SOFTMAX":
        return b.op("Softmax", x, axis=1)
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(b, x)
    return _probit(b, x) if name == "PROBIT" else x


def logistic(b: Builder, x: Tensor) -> Tensor:
    """Return ``1 / (1 + exp(-x))``, computed from the magnitude."""
    v = 1.0 / (b.op("Exp", -b.op("Abs", x)) + 1.0)
    return b.where(x < 0.0, 1.0 - v, v)


def _softmax_zero(b: Builder, x: Tensor) -> Tensor:
    """Softmax over the scores that are not almost zero; those stay (almost) zero."""
    largest = b.reduce("Max", x, [1])
    counts = (x > _ALMOST_ZERO) | (x < -_ALMOST_ZERO)
    powers = b.op("Exp", x - largest)
    size = b.reduce("Sum", b.where(counts, powers, 0.0), [1])
    return b.where(counts, powers, x * b.op("Exp", -largest)) / size


def _probit(b: Builder, x: Tensor) -> Tensor:
    y = x * 2.0 - 1.0
    log = b.op("Log", (1.0 - y) * (y + 1.0))
    a = np.float32(_ERF_INV)
    v = log * 0.5 + float(np.float32(2) / (np.float32(math.pi) * a))
    root = b.op("Sqrt", b.op("Sqrt", v * v - log * float(np.float32(1) / a)) - v)
    return b.where(y < 0.0, -root, root) * float(np.float32(math.sqrt(2)))


def two_classes(b: Builder, score: Tensor, name: str, *, shares: bool) -> Tensor:
    """Return the scores of both classes from that of the second one (samples x 1), as float32.

    Args:
        b: Of the node.
        score: Of the second class.
        name: The transform.
        shares: Whether scores are shares of one, not distances from a border.
    """
    if name == "PROBIT":
        raise Refusal("its transform PROBIT gives one score where two classes have names")
    if name == "LOGISTIC":
        score, other = (logistic(b, s.cast(FLOAT)) for s in (score, -score))
    else:
        other = 1.0 - score if shares else -score
    return b.concat([other.cast(FLOAT), score.cast(FLOAT)], 1)


def label_of_largest(b: Builder, scores: Tensor, labels: Sequence[int]) -> Tensor:
    """Return the label of the first largest score of each sample."""
    place = b.op("ArgMax", scores, axis=1, keepdims=0)
    return b.constant(np.array(labels, np.int64)).gather(place, 0)


def label_if(b: Builder, condition: Tensor, positive: int, negative: int) -> Tensor:
    """Return one of two labels for each sample; ``condition`` is samples x 1."""
    flat = condition.reshape(condition.shape[0])
    chosen = (b.constant(np.array(label, np.int64)) for label in (positive, negative))
    return b.op("Where", flat, *chosen)
