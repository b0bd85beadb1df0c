"""Probabilities of classes from those of pairs of classes.

Source: Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
coupling", JMLR 5 (2004), algorithm 2, as LIBSVM and ONNX Runtime have it: at most 100 iterations,
until the error is below 0.005 / classes, in float32.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from mlopsc.importer.normalise.expansions.builder import Builder, Tensor

_ITERATIONS: Final = 100
_ERROR: Final = 0.005


def couple(b: Builder, wins: Tensor, classes: int) -> Tensor:
    """Return the probability of each class.

    Args:
        b: Of the node.
        wins: Samples x pairs: how probable the first class is against the second, pairs in the
            order 01, 02, ..., 12, ...
        classes: How many.

    Returns:
        Samples x classes.
    """
    samples = wins.shape[0]
    pairs = list(itertools.combinations(range(classes), 2))
    place = np.full((classes, classes), 2 * len(pairs))
    for number, (i, j) in enumerate(pairs):
        place[i, j], place[j, i] = number, len(pairs) + number
    zero = b.constant(np.zeros((samples, 1), np.float32))
    r = b.concat([wins, 1.0 - wins, zero], 1).gather(place.reshape(-1), 1)
    r = r.reshape(samples, classes, classes)
    diagonal = b.reduce("Sum", r * r, [1], keep=False)
    q = b.where(np.eye(classes, dtype=np.bool_), diagonal.reshape(samples, classes, 1),
                -(r.transpose(0, 2, 1) * r))  # fmt: skip
    start = b.constant(np.full((samples, classes), 1 / classes, np.float32))
    eps = float(np.float32(_ERROR) / np.float32(classes))

    def iterate(_: Tensor, carried: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        p = carried[0]
        qp = b.op("MatMul", q, p.reshape(samples, classes, 1)).reshape(samples, classes)
        pqp = b.reduce("Sum", p * qp, [1])
        error = b.reduce("Max", b.op("Abs", qp - pqp), [1])
        going = ~(error < eps)
        better = b.loop(classes, [p, qp, pqp], improve)[0]
        any_going = b.reduce("Max", going.cast(p.dtype), [0], keep=False).reshape() > 0.0
        return any_going, [b.where(going, better, p)]

    def improve(number: Tensor, carried: list[Tensor]) -> tuple[None, list[Tensor]]:
        p, qp, pqp = carried
        own = b.constant(np.eye(classes, dtype=np.float32)).gather(number, 0)
        of_q, of_qp, of_diagonal = (
            value.gather(number, 1).reshape(samples, -1) for value in (q, qp, diagonal)
        )
        step = (pqp - of_qp) / of_diagonal
        scale = step + 1.0
        pqp = (pqp + step * (step * of_diagonal + of_qp * 2.0)) / scale / scale
        return None, [(p + step * own) / scale, (qp + step * of_q) / scale, pqp]

    return b.loop(_ITERATIONS, [start], iterate)[0]
