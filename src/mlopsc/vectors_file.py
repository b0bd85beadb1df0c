"""Reads arrays of users: ``.npz`` files of samples by the name of the input, and single arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc.dtypes import from_file
from mlopsc.errors import InputError
from mlopsc.labels import to_places
from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]
LABEL = "label"


def load_vectors(
    path: Path, specs: Sequence[TensorSpec]
) -> tuple[list[dict[str, Array]], tuple[int, ...]]:
    """Read an ``.npz`` with one array per input, the first axis counting samples.

    An optional integer array ``label`` gives the expected class of each sample.

    Raises:
        InputError: The file cannot be read or does not fit the signature.
    """
    names = [spec.name for spec in specs]
    arrays, labels = read_samples(path, names)
    count = len(arrays[names[0]]) if names else 0
    samples = [{s.name: fit(arrays[s.name][number], s) for s in specs} for number in range(count)]
    return samples, labels


def read_samples(path: Path, names: Sequence[str]) -> tuple[dict[str, Array], tuple[int, ...]]:
    """Return the arrays of an ``.npz``, as many samples of each, and the expected classes.

    Raises:
        InputError: The file cannot be read, lacks an array or has others.
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
    labels = arrays.pop(LABEL, None) if LABEL not in names else None
    missing = [name for name in names if name not in arrays]
    extra = sorted(set(arrays) - set(names))
    if missing or extra:
        raise InputError(
            f"'{path}' holds arrays {sorted(arrays)}; expected one per input: "
            f"{list(names)} (and optionally '{LABEL}')"
        )
    counts = {len(arrays[name]) if arrays[name].ndim else 0 for name in names}
    if len(counts) != 1 or counts == {0}:
        shapes = {name: list(arrays[name].shape) for name in names}
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
    return arrays, tuple(int(v) for v in labels) if labels is not None else ()


def fit(array: Array, spec: TensorSpec) -> Array:
    """Return ``array`` with the shape of ``spec``; axes of size 1 may be missing or extra.

    Strings become places, where ``spec`` has labels.

    Raises:
        InputError: Type or shape do not fit.
    """
    if spec.labels is not None and array.dtype.kind in "SU":
        array = to_places(array, spec.labels)
    array = from_file(array, spec.dtype)
    squeezed = tuple(d for d in array.shape if d != 1)
    if array.dtype.name != spec.dtype or squeezed != tuple(d for d in spec.shape if d != 1):
        raise InputError(
            f"input '{spec.name}' is {array.dtype.name}{list(array.shape)}, expected "
            f"{spec.dtype}{list(spec.shape)}"
        )
    return np.asarray(array.reshape(spec.shape), dtype=spec.dtype, order="C")
