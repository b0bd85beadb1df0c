"""``TfIdfVectorizer`` on numbers: counts of n-grams as comparisons of shifted sequences and sums.

Source: the ONNX operator schema and, where it is silent, ONNX Runtime's kernel: items further apart
do not make new 1-grams.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import (
    Array,
    Builder,
    Expansion,
    Refusal,
    Tensor,
    total,
)
from mlopsc.importer.normalise.fixes import STRINGS

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64


def _pool(b: Builder) -> tuple[dict[int, Array], Array]:
    """Return the n-grams by length, each ``int64[count, length]``, and all their columns.

    Raises:
        Refusal: The attributes contradict each other.
    """
    if b.attribute("pool_strings"):
        raise Refusal("'pool_strings' holds strings, which a library cannot compute", hint=STRINGS)
    items = np.array(b.attribute("pool_int64s") or (), np.int64)
    starts = [*(b.attribute("ngram_counts") or ()), len(items)]
    columns = np.array(b.attribute("ngram_indexes") or (), np.int64)
    first, last = b.attribute("min_gram_length"), b.attribute("max_gram_length")
    wanted, kept, seen = {}, [], 0
    for length, (start, stop) in enumerate(itertools.pairwise(starts), start=1):
        if not 0 <= start <= stop <= len(items) or (stop - start) % length:
            raise Refusal(f"'ngram_counts' {starts[:-1]} does not divide a pool of {len(items)}")
        grams = items[start:stop].reshape(-1, length)
        if first <= length <= last and len(grams):
            wanted[length] = grams
            kept.append(columns[seen : seen + len(grams)])
        seen += len(grams)
    if seen != len(columns) or not seen or columns.min() < 0:
        raise Refusal(f"'ngram_indexes' has {len(columns)} columns for {seen} n-grams")
    return wanted, np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _count(b: Builder, x: Tensor, grams: Array, distance: int) -> Tensor | None:
    """Return how often each n-gram is in each row, its items ``distance`` apart."""
    rows, size = x.shape
    length = grams.shape[1]
    places = size - (length - 1) * distance
    if places <= 0 or not rows:
        return None
    hits = None
    for item in range(length):
        start = item * distance
        part = x.part(1, start, start + places).reshape(rows, places, 1)
        same = part.equals(b.constant(grams[:, item]))
        hits = same if hits is None else hits & same
    return None if hits is None else b.reduce("Sum", hits.cast(FLOAT), [1], keep=False)


def _vectorize(b: Builder) -> Tensor:
    """Return the counts of the n-grams in their columns, weighted as ``mode`` says."""
    x, (pool, columns) = b.required(0), _pool(b)
    shape = x.shape
    if len(shape) not in (1, 2):
        raise Refusal(f"its input has shape {list(shape)}; expected one or two axes")
    x = x.cast(INT64).reshape(int(np.prod(shape[:-1])), shape[-1])
    width = int(max(b.attribute("ngram_indexes"))) + 1
    counts = []
    for length, grams in pool.items():
        distances = range(1, 2 if length == 1 else b.attribute("max_skip_count") + 2)
        found = [c for d in distances if (c := _count(b, x, grams, d)) is not None]
        zeros = np.zeros((x.shape[0], len(grams)), np.float32)
        counts.append(total(found) if found else b.constant(zeros))
    none = b.constant(np.zeros((x.shape[0], 1), np.float32))
    by_column = _place(b.concat([*counts, none], axis=1), columns, width)
    return _weigh(b, by_column, width).reshape(*shape[:-1], width)


def _place(counts: Tensor, columns: Array, width: int) -> Tensor:
    """Return the counts in their columns; those that share a column are added."""
    rounds: dict[int, Array] = defaultdict(lambda: np.full(width, len(columns), np.int64))
    used = np.zeros(width, np.int64)
    for place, column in enumerate(columns):
        rounds[int(used[column])][column] = place
        used[column] += 1
    none = [np.full(width, len(columns), np.int64)]
    return total([counts.gather(places, 1) for places in (list(rounds.values()) or none)])


def _weigh(b: Builder, counts: Tensor, width: int) -> Tensor:
    mode = b.attribute("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise Refusal(f"'mode' is '{mode}'; expected TF, IDF or TFIDF")
    if mode == "TF":
        return counts
    columns = b.attribute("ngram_indexes")
    given = b.attribute("weights") or [1.0] * len(columns)
    if len(given) != len(columns):
        raise Refusal(f"it has {len(given)} weights for {len(columns)} n-grams")
    weights = np.zeros(width, np.float32)
    weights[columns] = given
    if (weights[columns] != np.array(given, np.float32)).any():
        raise Refusal("n-grams of one column have different weights")
    return counts * weights if mode == "TFIDF" else b.where(counts > 0, b.constant(weights), 0.0)


EXPANSIONS: Final[dict[str, Expansion]] = {"TfIdfVectorizer": _vectorize}
