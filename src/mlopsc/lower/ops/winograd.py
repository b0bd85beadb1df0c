"""Convolution by Winograd's minimal filtering, on channel-blocked tensors; see ``lower.winograd``.

Weights are ``[n, n, F/(pB), C/B, B, p, B]``: for each of the ``n x n`` points of a tile a matrix of
channels and features. The stages that change between points and pixels carry ``STAGE``: they are
small linear maps that a schedule unrolls.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.node import Node, literal
from mlopsc.lower.ops.window import Window
from mlopsc.lower.winograd import Matrix, transforms

STAGE: Final = "mlopsc.winograd"  # annotation of a stage: how many results a tile has per axis


def winograd(node: Node) -> Any:
    """Return the convolution, without its bias."""
    x, w = node.operand(0), node.operand(1)
    size, pair, block = w.shape[0], w.shape[-2], node.result.shape[-1]
    results = int(node.attribute("results"))
    taps = size - results + 1
    n, features, height, width, _ = node.result.shape
    rows, columns = -(-height // results), -(-width // results)
    matrices = transforms(results, taps)
    sizes, out = x.shape[2:-1], (rows * results, columns * results)
    window = Window.of(node, (taps, taps), sizes, (height, width))
    padded = window.padded(x.tensor, literal(0, x.dtype), sizes, out, trailing=1)
    stage = {STAGE: results}

    def vertical(i: Any, j: Any, n: Any, c: Any, t: Any, lane: Any) -> Any:
        top, left = tirx.indexdiv(t, columns) * results, tirx.indexmod(t, columns) * results
        return _row(matrices.inputs, i, lambda r: padded(n, c, top + r, left + j, lane))

    shape = (size, size, n, x.shape[1], rows * columns, x.shape[-1])
    half = te.compute(shape, vertical, name="points_half", attrs=stage)
    points = te.compute(
        shape,
        lambda i, j, *rest: _row(matrices.inputs, j, lambda s: half(i, s, *rest)),
        name="points",
        attrs=stage,
    )
    outer = te.reduce_axis((0, x.shape[1]), name="c")
    inner = te.reduce_axis((0, x.shape[-1]), name="ci")

    def product(i: Any, j: Any, n: Any, f: Any, t: Any, lane: Any) -> Any:
        panel, of = tirx.indexdiv(f, pair), tirx.indexmod(f, pair)
        value = points(i, j, n, outer, t, inner) * w.tensor(i, j, panel, outer, inner, of, lane)
        return te.sum(value, axis=[outer, inner])

    products = te.compute(
        (size, size, n, features, rows * columns, block), product, name="products"
    )
    back = te.compute(
        (n, features, rows, columns, results, size, block),
        lambda n, f, y, x, a, j, lane: _row(
            matrices.outputs, a, lambda i: products(i, j, n, f, y * columns + x, lane)
        ),
        name="pixels_half",
        attrs=stage,
    )

    def pixel(n: Any, f: Any, y: Any, x: Any, lane: Any) -> Any:
        tile = tirx.indexdiv(y, results), tirx.indexdiv(x, results)
        return _row(
            matrices.outputs,
            tirx.indexmod(x, results),
            lambda j: back(n, f, *tile, tirx.indexmod(y, results), j, lane),
        )

    return te.compute(node.result.shape, pixel, name="conv")


def _row(matrix: Matrix, index: Any, element: Callable[[int], Any]) -> Any:
    """Return row ``index`` of ``matrix`` times the vector of elements."""
    values = [_dot(row, element) for row in matrix]
    result = values[-1]
    for number, value in reversed(list(enumerate(values[:-1]))):
        result = tirx.Select(index == number, value, result)
    return result


def _dot(row: tuple[Fraction, ...], element: Callable[[int], Any]) -> Any:
    """Return the sum of the elements, each times its coefficient; positive ones first."""
    total: Any = None
    for k, coefficient in sorted(enumerate(row), key=lambda item: item[1] <= 0):
        if coefficient == 0:
            continue
        value = element(k)
        if abs(coefficient) != 1:
            value = value * literal(float(abs(coefficient)), value)
        if total is None:
            total = value if coefficient > 0 else literal(0, value) - value
        else:
            total = total + value if coefficient > 0 else total - value
    return total
