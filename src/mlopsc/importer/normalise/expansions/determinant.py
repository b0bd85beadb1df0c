"""Determinants: by their formula up to three rows, by elimination above.

Requires: a static shape of at most 32 rows. Source: the schema of Det 22. Elimination chooses the
largest pivot of a column; a matrix without one has determinant zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor

_MAX_ROWS = 32


def _det(b: Builder) -> Tensor:
    x = b.required(0)
    rows = x.shape[-1] if x.rank >= 2 else 0
    if x.rank < 2 or x.shape[-2] != rows or not 1 <= rows <= _MAX_ROWS:
        raise Refusal(f"its input has shape {list(x.shape)}; expected up to {_MAX_ROWS} rows")
    batch = x.shape[:-2]
    matrix = x.reshape(int(np.prod(batch)), rows, rows)
    result = _formula(matrix, rows) if rows <= 3 else _eliminate(b, matrix, rows)
    return result.reshape(*batch)


def _formula(matrix: Tensor, rows: int) -> Tensor:
    def at(row: int, column: int) -> Tensor:
        return matrix.part(1, row, row + 1).part(2, column, column + 1)

    def minor(r1: int, r2: int, c1: int, c2: int) -> Tensor:
        return at(r1, c1) * at(r2, c2) - at(r1, c2) * at(r2, c1)

    if rows == 1:
        return matrix
    if rows == 2:
        return minor(0, 1, 0, 1)
    return (
        at(0, 0) * minor(1, 2, 1, 2) - at(0, 1) * minor(1, 2, 0, 2) + at(0, 2) * minor(1, 2, 0, 1)
    )


def _eliminate(b: Builder, matrix: Tensor, rows: int) -> Tensor:
    count = matrix.shape[0]
    result: Tensor | None = None
    for size in range(rows, 1, -1):
        column = b.op("Abs", matrix.part(2, 0, 1))
        chosen = b.op("ArgMax", column, axis=1, keepdims=1)
        pivot_row = b.op("GatherElements", matrix, chosen.expand(count, 1, size), axis=1)
        here = np.arange(1, size, dtype=np.int64).reshape(1, -1, 1)
        rest = b.where(chosen.equals(here), matrix.part(1, 0, 1), matrix.part(1, 1, size))
        pivot = pivot_row.part(2, 0, 1)
        singular = pivot.equals(0)
        factor = rest.part(2, 0, 1) / b.where(singular, 1, pivot)
        matrix = rest.part(2, 1, size) - factor * pivot_row.part(2, 1, size)
        signed = b.where(chosen.equals(0), pivot, -pivot)
        result = signed if result is None else result * signed
    if result is None:
        return matrix
    return result * matrix


EXPANSIONS: Final[dict[str, Expansion]] = {"Det": _det}
