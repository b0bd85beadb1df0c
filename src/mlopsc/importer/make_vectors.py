"""Test vectors synthesised from the signature, and the reference's answers to any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlopsc.bundle import Vector
from mlopsc.drawing import SEED, draw_array
from mlopsc.errors import SourceError
from mlopsc.reference import Reference
from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]
SYNTHESISED = 4


def answer(reference: Reference, inputs: Sequence[dict[str, Array]]) -> list[Vector]:
    """Return vectors with the reference's outputs."""
    return [Vector(given, reference.run(given)) for given in inputs]


def synthesise(specs: Sequence[TensorSpec], reference: Reference) -> list[Vector]:
    """Return vectors drawn with a fixed seed, with the reference's outputs.

    ``draw_array`` says how; of strings, places in their table. Where the reference refuses such
    inputs (a division by zero, say), all integers are 1, then 0.

    Raises:
        SourceError: The reference fails on everything that was drawn.
    """
    rng = np.random.Generator(np.random.PCG64(SEED))
    vectors = []
    for number in range(SYNTHESISED):
        last = number == SYNTHESISED - 1
        given = {s.name: _draw(rng, s, last=last) for s in specs}
        vectors.append(_first_answered(reference, [given, _with(given, 1), _with(given, 0)]))
    return vectors


def _draw(rng: np.random.Generator, spec: TensorSpec, *, last: bool) -> Array:
    if spec.labels is not None:  # places in the table, and at last of strings that are not in it
        return rng.integers(-1 if last or not spec.labels else 0, len(spec.labels), spec.shape)
    return draw_array(rng, spec.dtype, spec.shape, last=last)


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
