"""``ai.onnx.ml``: scaling, filling in, choosing and joining features.

Source: the ONNX operator schemas and, where they are silent, ONNX Runtime's kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
_LOWEST = float(np.finfo(np.float32).min)


def rows(x: Tensor) -> Tensor:
    """Return ``x`` as a matrix of one row per sample; a vector is one sample."""
    if x.rank not in (1, 2):
        raise Refusal(f"its input has {x.rank} dimensions; expected 1 or 2")
    return x.reshape(1, x.shape[0]) if x.rank == 1 else x


def _per_feature(x: Tensor, values: Sequence[float], what: str) -> np.ndarray:
    """Return one value per feature, or the one for all."""
    if len(values) != 1 and (x.rank > 2 or len(values) != x.shape[-1]):
        raise Refusal(f"{what} has {len(values)} values for an input of shape {list(x.shape)}")
    return np.array(values, np.float32)


def _scaler(b: Builder) -> Tensor:
    """Return ``(x - offset) * scale``, in float32 unless the input is float64."""
    x = b.required(0)
    dtype = x.dtype if x.dtype == ir.DataType.DOUBLE else FLOAT
    offset, scale = (
        b.constant(_per_feature(x, b.attribute(name) or (), f"'{name}'"), dtype)
        for name in ("offset", "scale")
    )
    return ((x.cast(dtype) - offset) * scale).cast(FLOAT)


def _normalizer(b: Builder) -> Tensor:
    """Divide rows by their largest element, sum of magnitudes or length; by zero, leave them."""
    x, norm = b.required(0), b.attribute("norm", "MAX")
    if x.rank not in (1, 2):
        raise Refusal(f"its input has {x.rank} dimensions; expected 1 or 2")
    y = x.cast(FLOAT)
    if norm == "MAX":  # of the elements themselves, NaN left out
        size = b.reduce("Max", b.where(y > _LOWEST, y, _LOWEST), [-1])
        scaled = y / size
    elif norm == "L1":
        size = b.reduce("Sum", b.op("Abs", x).cast(FLOAT), [-1])
        scaled = y / size
    elif norm == "L2":
        squares = (x * x).cast(FLOAT)
        size = b.reduce("Sum", squares, [-1])
        root = b.op("Sqrt", squares / size)
        scaled = b.where(x < 0, -root, root)
    else:
        raise Refusal(f"'norm' is '{norm}'; expected MAX, L1 or L2")
    return b.where(size.equals(0.0), y, scaled)


def _imputer(b: Builder) -> Tensor:
    """Put a value in the place of every element that equals another one (NaN equals NaN)."""
    x = b.required(0)
    kind, default = ("float", 0.0) if x.is_float else ("int64", 0)
    values = b.attribute(f"imputed_value_{kind}s")
    if not values:
        raise Refusal(f"'imputed_value_{kind}s' is missing for an input of type {x.dtype.name}")
    replaced = b.attribute(f"replaced_value_{kind}", default)
    # Values that are not one per feature: the first one counts.
    chosen = values if x.rank <= 2 and len(values) == x.shape[-1] else values[:1]
    missing = b.op("IsNaN", x) if np.isnan(replaced) else x.equals(replaced)
    return b.where(missing, b.constant(np.array(chosen), x.dtype), x)


def _binarizer(b: Builder) -> Tensor:
    x = b.required(0)
    above = x > float(b.attribute("threshold", 0.0))
    return above.cast(x.dtype)


def _array_feature_extractor(b: Builder) -> Tensor:
    x, indices = b.required(0), b.required(1)
    picked = x.gather(indices.reshape(-1), -1)
    return picked.reshape(1, *picked.shape) if x.rank == 1 else picked


def _feature_vectorizer(b: Builder) -> Tensor:
    """Join inputs as float32, each cut or filled with zeros to its stated size."""
    inputs, sizes = b.inputs(), b.attribute("inputdimensions") or []
    if len(inputs) != len(sizes):
        raise Refusal(f"it has {len(inputs)} inputs and {len(sizes)} 'inputdimensions'")
    parts = []
    for x, size in zip(inputs, sizes, strict=True):
        y = x.reshape(1, -1) if x.rank <= 1 else x.reshape(x.shape[0], -1)
        y = y.cast(FLOAT).part(1, 0, min(size, y.shape[1]))
        parts.append(b.pad(y, [0, 0], [0, size - y.shape[1]], 0.0))
    return b.concat(parts, 1)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": _imputer,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}
