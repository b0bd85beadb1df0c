"""``ai.onnx.ml``: encoders of categories and labels that are numbers.

Source: the ONNX operator schemas and, where they are silent, ONNX Runtime's kernels. Strings have
no place in a compiled library: what *NumberStrings* leaves of them is refused with what to do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor
from mlopsc.importer.normalise.fixes import LABELS, STRINGS

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
_HOLDS = "holds strings, with which a library can do no more than move, compare and encode them"
_DENSE = 4  # a table of integer keys may have this many entries per key


def refuse_strings(b: Builder, *names: str) -> None:
    """Refuse attributes that hold strings.

    Raises:
        Refusal: One of the attributes ``names`` is there.
    """
    for name in names:
        if b.attribute(name):
            raise Refusal(f"'{name}' {_HOLDS}", hint=STRINGS)


def class_labels(b: Builder, name: str) -> list[int]:
    """Return the class labels of a classifier, which attribute ``name`` holds.

    Raises:
        Refusal: The labels are strings.
    """
    if b.attribute("classlabels_strings"):
        raise Refusal(f"'classlabels_strings' {_HOLDS}", hint=LABELS)
    return list(b.attribute(name) or ())


def _one_hot_encoder(b: Builder) -> Tensor:
    """Return 1 where the integer part of the input is a category.

    An unknown category gives zeros; with ``zeros`` 0 the specification calls it an error.
    """
    refuse_strings(b, "cats_strings")
    x, categories = b.required(0), np.array(b.attribute("cats_int64s") or (), np.int64)
    if not categories.size:
        raise Refusal("'cats_int64s' is missing")
    x = b.where(x < 0, b.op("Ceil", x), b.op("Floor", x)) if x.is_float else x.cast(INT64)
    keys = categories.astype(x.dtype.numpy())
    usable = keys.astype(object) == categories.astype(object)  # others are never met
    usable &= [value not in categories[i + 1 :] for i, value in enumerate(categories)]
    hits = x.reshape(*x.shape, 1).equals(b.constant(keys))
    return b.op("And", hits, usable).cast(FLOAT)


def _tensor(b: Builder, what: str) -> np.ndarray[Any, Any] | None:
    """Return the keys or values of a ``LabelEncoder``, however they are given."""
    refuse_strings(b, f"{what}_strings")
    given = b.attribute(f"{what}_tensor")
    if given is not None:
        if given.dtype == ir.DataType.STRING:
            raise Refusal(f"'{what}_tensor' {_HOLDS}", hint=STRINGS)
        return np.asarray(given.numpy()).reshape(-1)
    for kind, dtype in (("int64s", np.int64), ("floats", np.float32)):
        found = b.attribute(f"{what}_{kind}")
        if found is not None:
            return np.array(found, dtype)
    return None


def _default(b: Builder, dtype: np.dtype[Any]) -> Any:
    given = b.attribute("default_tensor")
    if given is not None:
        return np.asarray(given.numpy()).reshape(-1)[0]
    if np.issubdtype(dtype, np.floating):
        return dtype.type(b.attribute("default_float", -0.0))
    return dtype.type(b.attribute("default_int64", -1))


def _label_encoder(b: Builder) -> Tensor:
    """Return the value of the first key that equals the input, NaN included, or the default."""
    refuse_strings(b, "classes_strings")
    x, keys, values = b.required(0), _tensor(b, "keys"), _tensor(b, "values")
    if keys is None or values is None or len(keys) != len(values) or not len(keys):
        raise Refusal("it needs keys and values, equally many")
    if keys.dtype != x.dtype.numpy():
        raise Refusal(f"its keys are {keys.dtype} and its input is {x.dtype.name}")
    default = _default(b, values.dtype)
    if not x.is_float and int(keys.max()) - int(keys.min()) < _DENSE * len(keys):
        return _by_table(b, x, keys, values, default)
    hits = x.reshape(*x.shape, 1).equals(b.constant(keys))
    if np.isnan(keys).any():
        hits = hits | (b.op("IsNaN", x).reshape(*x.shape, 1) & np.isnan(keys))
    place = b.op("ArgMax", hits.cast(FLOAT), axis=-1, keepdims=0)  # the first of equals
    known = b.reduce("Max", hits.cast(FLOAT), [-1], keep=False) > 0.0
    found = b.constant(values).gather(place, 0)
    return b.where(known, found, b.constant(np.array(default, values.dtype)))


def _by_table(b: Builder, x: Tensor, keys: Any, values: Any, default: Any) -> Tensor:
    """Look close integers up in a table, whose last entry is for all others."""
    first, count = int(keys.min()), int(keys.max()) - int(keys.min()) + 1
    table = np.full(count + 1, default, values.dtype)
    for key, value in reversed(list(zip(keys, values, strict=True))):
        table[int(key) - first] = value
    x = x.cast(INT64)
    inside = b.op("GreaterOrEqual", x, first) & b.op("LessOrEqual", x, first + count - 1)
    return b.constant(table).gather(b.where(inside, x - first, count), 0)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "LabelEncoder": _label_encoder,
    "OneHotEncoder": _one_hot_encoder,
}
