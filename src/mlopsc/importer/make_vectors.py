"""Test vectors synthesised from the signature, and the reference's answers to any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from mlopsc.bundle import Vector
from mlopsc.dtypes import DTYPES
from mlopsc.errors import SourceError
from mlopsc.reference import Reference
from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]
SYNTHESISED = 4
_SEED = 20260101


def answer(reference: Reference, inputs: Sequence[dict[str, Array]]) -> list[Vector]:
    """Return vectors with the reference's outputs."""
    return [Vector(given, reference.run(given)) for given in inputs]


def synthesise(specs: Sequence[TensorSpec], reference: Reference) -> list[Vector]:
    """Return vectors drawn with a fixed seed, with the reference's outputs.

    Floats are standard normal, in the last vector uniform in [0, 1); 8-bit integers span their
    range; wider integers are 0 or 1, which is in range for indices of any table. Where the
    reference refuses such inputs (a division by zero, say), all integers are 1, then 0.

    Raises:
        SourceError: The reference fails on everything that was drawn.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    vectors = []
    for number in range(SYNTHESISED):
        given = {s.name: _draw(rng, s, last=number == SYNTHESISED - 1) for s in specs}
        vectors.append(_first_answered(reference, [given, _with(given, 1), _with(given, 0)]))
    return vectors


def _first_answered(reference: Reference, choices: Sequence[dict[str, Array]]) -> Vector:
    failure: SourceError | None = None
    for given in choices:
        try:
            return Vector(given, reference.run(given))
        except SourceError as error:
            failure = failure or error
    raise failure or SourceError("no inputs were drawn")


def _with(given: dict[str, Array], value: int) -> dict[str, Array]:
    return {n: np.full_like(a, value) if a.dtype.kind in "iu" else a for n, a in given.items()}


def _draw(rng: np.random.Generator, spec: TensorSpec, *, last: bool) -> Array:
    dtype = np.dtype(spec.dtype)
    if DTYPES[spec.dtype].is_float:
        drawn = rng.random(spec.shape) if last else rng.standard_normal(spec.shape)
        unsigned = spec.dtype == "float8_e8m0fnu"
        return np.asarray(np.abs(drawn) if unsigned else drawn).astype(dtype)
    if dtype.itemsize == 1 and spec.dtype != "bool":
        info = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
        return rng.integers(info.min, info.max, spec.shape, np.int16, endpoint=True).astype(dtype)
    return rng.integers(0, 2, spec.shape).astype(dtype)
