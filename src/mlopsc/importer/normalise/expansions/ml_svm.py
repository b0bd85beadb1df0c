"""``ai.onnx.ml``: support vector machines.

Source: the ONNX operator schemas and, where they are silent, ONNX Runtime's kernels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor
from mlopsc.importer.normalise.expansions.ml_coupling import couple
from mlopsc.importer.normalise.expansions.ml_features import rows
from mlopsc.importer.normalise.expansions.ml_labels import class_labels
from mlopsc.importer.normalise.expansions.ml_scores import (
    label_of_largest,
    logistic,
    post_transform,
    transform,
    two_classes,
)

FLOAT, DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE
_LEAST = 1e-7  # probability of a class in a pair
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def _floats(b: Builder, name: str) -> np.ndarray[Any, Any]:
    return np.array(b.attribute(name) or (), np.float32)


def _kernel(b: Builder, x: Tensor, vectors: np.ndarray[Any, Any]) -> Tensor:
    """Return the kernel of every sample with every vector (samples x vectors)."""
    name, parameters = b.attribute("kernel_type", "LINEAR"), _floats(b, "kernel_params")
    if name not in _KERNELS or len(parameters) not in (0, 3):
        raise Refusal(f"its kernel is '{name}' with {len(parameters)} parameters")
    gamma, offset, degree = (float(v) for v in (parameters if len(parameters) else (0, 0, 0)))
    if name == "RBF":
        features = x.reshape(x.shape[0], 1, x.shape[1])
        differences = features - b.constant(vectors[None])
        return b.op("Exp", b.reduce("Sum", differences * differences, [2], keep=False) * -gamma)
    if name == "LINEAR":
        return b.op("Gemm", x, vectors.T.copy())
    products = b.op("Gemm", x, vectors.T.copy(), np.array([offset], np.float32), alpha=gamma)
    if name == "SIGMOID":
        return b.op("Tanh", products)
    if degree in (2.0, 3.0):
        square = products * products
        return square if degree == 2.0 else square * products
    return b.op("Pow", products, degree)


def _weighted(b: Builder, kernel: Tensor, weights: np.ndarray[Any, Any]) -> Tensor:
    """Return ``kernel @ weights`` in float64: the terms of these sums cancel each other."""
    return b.op("MatMul", kernel.cast(DOUBLE), weights.astype(np.float64))


def _samples(b: Builder, features: int) -> Tensor:
    x = rows(b.required(0)).cast(FLOAT)
    if x.shape[1] != features:
        raise Refusal(f"it takes {features} features; its input has {x.shape[1]}")
    return x


def _vectors(b: Builder, count: int) -> np.ndarray[Any, Any]:
    """Return the support vectors (count x features)."""
    values = _floats(b, "support_vectors")
    if values.size % count:
        raise Refusal(f"it has {values.size} numbers in {count} support vectors")
    return values.reshape(count, -1)


def _regressor(b: Builder) -> Tensor:
    count, rho = int(b.attribute("n_supports", 0)), _floats(b, "rho")
    coefficients = _floats(b, "coefficients")
    if not rho.size or not coefficients.size:
        raise Refusal("it needs coefficients and rho")
    if count > 0:
        vectors = _vectors(b, count)
        if coefficients.size != count:
            raise Refusal(f"it has {coefficients.size} coefficients for {count} support vectors")
        kernel = _kernel(b, _samples(b, vectors.shape[1]), vectors)
        scores = (_weighted(b, kernel, coefficients.reshape(-1, 1)) + float(rho[0])).cast(FLOAT)
    else:
        x = _samples(b, coefficients.size)
        scores = b.op("Gemm", x, coefficients.reshape(-1, 1), rho[:1])
    if not b.attribute("one_class", 0):
        return scores
    return b.where(scores > 0.0, b.constant(np.float32(1)), -1.0)


@dataclass(frozen=True)
class _Machine:
    """A classifier by one machine for each pair of classes.

    Attributes:
        b: Of the node.
        x: Samples x features.
        counts: Support vectors of each class.
        labels: Of the classes.
    """

    b: Builder
    x: Tensor
    counts: list[int]
    labels: list[int]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Both classes of each machine."""
        return [(i, j) for i in range(len(self.labels)) for j in range(i + 1, len(self.labels))]

    def decisions(self, vectors: np.ndarray[Any, Any]) -> Tensor:
        """Return each machine's score, above 0 for its first class (samples x pairs, float64)."""
        b, classes = self.b, len(self.labels)
        coefficients, rho = _floats(b, "coefficients"), _floats(b, "rho")
        count = sum(self.counts)
        if coefficients.size != (classes - 1) * count or rho.size != len(self.pairs):
            raise Refusal(
                f"it has {coefficients.size} coefficients and {rho.size} rho for {classes} classes "
                f"and {count} support vectors"
            )
        # Row r of a class's columns is for its machine with class r, or r + 1 if that is not lower.
        table = coefficients.reshape(classes - 1, count)
        kernel, starts = _kernel(b, self.x, vectors), np.cumsum([0, *self.counts])
        sums = b.concat(
            [
                _weighted(b, kernel.part(1, int(start), int(end)), table[:, start:end].T)
                if end > start
                else b.constant(np.zeros((self.x.shape[0], classes - 1)))
                for start, end in itertools.pairwise(starts)
            ],
            1,
        )
        ours = np.array([i * (classes - 1) + j - 1 for i, j in self.pairs])
        theirs = np.array([j * (classes - 1) + i for i, j in self.pairs])
        return sums.gather(ours, 1) + sums.gather(theirs, 1) + b.constant(rho[None], DOUBLE)

    def votes(self, decisions: Tensor) -> Tensor:
        """Return how many machines chose each class, as float32 (samples x classes)."""
        first = (decisions > 0.0).cast(FLOAT)
        table = np.zeros((2, len(self.pairs), len(self.labels)), np.float32)
        for number, (i, j) in enumerate(self.pairs):
            table[0, number, i], table[1, number, j] = 1.0, 1.0
        return self.b.op("MatMul", first, table[0]) + self.b.op("MatMul", 1.0 - first, table[1])


def _classifier(b: Builder) -> list[Tensor]:
    labels, counts = class_labels(b, "classlabels_ints"), b.attribute("vectors_per_class") or []
    name = post_transform(b)
    if len(labels) < 2:
        raise Refusal(f"it has {len(labels)} classes; expected at least 2")
    if not sum(counts):
        return _linear(b, labels, name)
    if len(counts) != len(labels):
        raise Refusal(f"it has support vectors of {len(counts)} classes and {len(labels)} labels")
    vectors = _vectors(b, sum(counts))
    machine = _Machine(b, _samples(b, vectors.shape[1]), counts, labels)
    decisions = machine.decisions(vectors)
    label = label_of_largest(b, machine.votes(decisions), labels)
    decisions = decisions.cast(FLOAT)
    slopes, offsets = _floats(b, "prob_a"), _floats(b, "prob_b")
    if slopes.size != offsets.size or slopes.size not in (0, len(machine.pairs)):
        raise Refusal(f"it has {slopes.size} 'prob_a' and {offsets.size} 'prob_b'")
    if slopes.size:
        wins = 1.0 - logistic(b, decisions * b.constant(slopes) + b.constant(offsets))
        wins = b.op("Min", b.op("Max", wins, _LEAST), float(np.float32(1) - np.float32(_LEAST)))
        return [label, transform(b, couple(b, wins, len(labels)), name)]
    if len(labels) == 2:
        return [label, two_classes(b, decisions, name, shares=name != "NONE")]
    return [label, transform(b, decisions, name)]


def _linear(b: Builder, labels: list[int], name: str) -> list[Tensor]:
    """Return labels and scores of one linear function per class."""
    coefficients, rho = _floats(b, "coefficients"), _floats(b, "rho")
    if not coefficients.size or coefficients.size % len(labels) or not rho.size:
        raise Refusal(f"it has {coefficients.size} coefficients for {len(labels)} classes")
    weights = coefficients.reshape(len(labels), -1)
    x = _samples(b, weights.shape[1])
    scores = b.op("Gemm", x, weights.T.copy(), rho[:1])
    label = label_of_largest(b, scores, labels)
    if len(labels) == 2 and not b.attribute("prob_a"):  # the runtime's rule
        largest = b.reduce("Max", scores, [1])
        shares = bool((coefficients >= 0).all())
        second = b.op("GreaterOrEqual", largest, 0.5) if shares else largest > 0.0
        label = b.where(second.reshape(-1), b.constant(np.array(labels[1])), label)
    return [label, transform(b, scores, name)]


EXPANSIONS: Final[dict[str, Expansion]] = {
    "SVMClassifier": _classifier,
    "SVMRegressor": _regressor,
}
