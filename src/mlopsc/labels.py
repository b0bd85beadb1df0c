"""Label tables: how strings are told from places in a table, and back.

A library computes no strings. An input or output that is made of strings in the model holds int64
places in a table of them (``TensorSpec.labels``); whoever has the table gives the strings back. An
input may hold -1, for a string that is not in its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlopsc.errors import BrokenPackageError
from mlopsc.schema.common import TensorSpec

Array = np.ndarray[Any, Any]
METADATA_KEY = "mlopsc.labels"  # of an input or output in a graph: the table, a JSON array


def to_strings(outputs: Mapping[str, Array], specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Return ``outputs`` with arrays of ``str`` (dtype object) where ``specs`` have labels.

    Args:
        outputs: What a library computed, by name.
        specs: Of the outputs.

    Raises:
        BrokenPackageError: A place is outside its table.
    """
    named = dict(outputs)
    for spec in specs:
        if spec.labels is None:
            continue
        places = outputs[spec.name]
        if places.size and not 0 <= int(places.min()) <= int(places.max()) < len(spec.labels):
            raise BrokenPackageError(
                f"output '{spec.name}' holds places from {places.min()} to {places.max()}; "
                f"expected 0 to {len(spec.labels) - 1}, as it has {len(spec.labels)} labels",
                hint="build the package again with 'mlopsc build'",
            )
        strings = [spec.labels[place] for place in places.ravel().tolist()]
        named[spec.name] = np.array(strings, object).reshape(places.shape)
    return named


def to_places(strings: Array, labels: Sequence[str]) -> Array:
    """Return the place of every string in ``labels`` as int64; -1 for what is not there."""
    places = {label: place for place, label in enumerate(labels)}
    found = [places.get(str(string), -1) for string in strings.ravel().tolist()]
    return np.array(found, np.int64).reshape(strings.shape)


def strings_of(places: Array, labels: Sequence[str]) -> Array:
    """Return the strings (dtype object) that places of an input stand for.

    What is outside the table becomes a string that is not in it.
    """
    other = "?"
    while other in labels:
        other += "?"
    known = [labels[p] if 0 <= p < len(labels) else other for p in places.ravel().tolist()]
    return np.array(known, object).reshape(places.shape)
