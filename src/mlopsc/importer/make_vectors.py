"""Test vectors: given by the user or synthesised from the signature, answered by the reference."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mlopsc.bundle import Vector
from mlopsc.dtypes import DTYPES, from_file
from mlopsc.errors import InputError, SourceError
from mlopsc.reference import Reference
from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]
SYNTHESISED = 4
_SEED = 20260101
LABEL = "label"


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


def load_vectors(
    path: Path, specs: Sequence[TensorSpec]
) -> tuple[list[dict[str, Array]], tuple[int, ...]]:
    """Read an ``.npz`` with one array per input, the first axis counting samples.

    An optional integer array ``label`` gives the expected class of each sample.

    Raises:
        InputError: The file cannot be read or does not fit the signature.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, AttributeError,
            TypeError) as error:  # fmt: skip
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not an .npz"
        raise InputError(
            f"cannot read test vectors from '{path}': {reason}; expected an .npz of plain arrays",
            hint="write one with numpy.savez(path, input_name=array, ...)",
        ) from error
    labels = arrays.pop(LABEL, None) if LABEL not in {s.name for s in specs} else None
    missing = [s.name for s in specs if s.name not in arrays]
    extra = sorted(set(arrays) - {s.name for s in specs})
    if missing or extra:
        raise InputError(
            f"'{path}' holds arrays {sorted(arrays)}; expected one per input: "
            f"{[s.name for s in specs]} (and optionally '{LABEL}')"
        )
    counts = {len(arrays[s.name]) if arrays[s.name].ndim else 0 for s in specs}
    if len(counts) != 1 or counts == {0}:
        shapes = {s.name: list(arrays[s.name].shape) for s in specs}
        raise InputError(
            f"the arrays in '{path}' have shapes {shapes}; expected the same number of samples, at "
            "least 1, as the first axis of each"
        )
    count = counts.pop()
    if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
        raise InputError(
            f"'{LABEL}' in '{path}' is {labels.dtype.name}{list(labels.shape)}; expected one "
            f"integer for each of the {count} samples"
        )
    samples = [{s.name: fit(arrays[s.name][number], s) for s in specs} for number in range(count)]
    return samples, tuple(int(v) for v in labels) if labels is not None else ()


def fit(array: Array, spec: TensorSpec) -> Array:
    """Return ``array`` with the shape of ``spec``; axes of size 1 may be missing or extra.

    Raises:
        InputError: Type or shape do not fit.
    """
    array = from_file(array, spec.dtype)
    squeezed = tuple(d for d in array.shape if d != 1)
    if array.dtype.name != spec.dtype or squeezed != tuple(d for d in spec.shape if d != 1):
        raise InputError(
            f"input '{spec.name}' is {array.dtype.name}{list(array.shape)}, expected "
            f"{spec.dtype}{list(spec.shape)}"
        )
    return np.asarray(array.reshape(spec.shape), dtype=spec.dtype, order="C")
