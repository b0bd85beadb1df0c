"""Models of the operators of ``ai.onnx.ml`` that become core operators: see ``op_cases``."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper
from op_cases import Array, Case, Const, f, i
from op_cases_ml import features

TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def _case(op: str, label: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Case:
    return Case(f"ai.onnx.ml::{op}", label, inputs, outputs, attributes)


def _floats(key: str, *shape: int, low: float = -1.0, high: float = 1.0) -> list[float]:
    return [float(v) for v in f(key, *shape, low=low, high=high).reshape(-1)]


def _features() -> list[Case]:
    x, wide = features("features", 5), features("features64", 5, "float64")
    whole, long = i("whole", 5, 6), i("long", 5, 6, dtype="int64", low=-3, high=4)
    zeros = np.where(np.arange(5)[:, None] == 2, np.float32(0), features("zeros", 5, missing=False))
    per = {"offset": _floats("offset", 6), "scale": _floats("scale", 6)}
    nan = {"replaced_value_float": float("nan")}
    return [
        *(_case("Scaler", k, v, **per) for k, v in
          {"f32": x, "f64": wide, "i32": whole, "i64": long, "row": x[1]}.items()),
        _case("Scaler", "one", f("cube", 2, 3, 4), offset=[0.5], scale=[0.3]),
        *(_case("Normalizer", f"{norm}_{k}", v, norm=norm) for norm in ("MAX", "L1", "L2")
          for k, v in {"f32": x, "f64": features("plain", 4, "float64", missing=False),
                       "i32": whole, "i64": long, "zeros": zeros, "row": zeros[1]}.items()),
        _case("Imputer", "nan", x, imputed_value_floats=_floats("impute", 6), **nan),
        _case("Imputer", "nan_one", x[0], imputed_value_floats=[7.5], **nan),
        _case("Imputer", "number", x, imputed_value_floats=[7.5], replaced_value_float=1.0),
        _case("Imputer", "zero", x, imputed_value_floats=[7.5, 1.0], replaced_value_float=0.0),
        _case("Imputer", "i64", long, imputed_value_int64s=list(range(6)), replaced_value_int64=2),
        _case("Binarizer", "f32", zeros, threshold=0.3),
        _case("Binarizer", "default", zeros),
        _case("ArrayFeatureExtractor", "columns", x, Const(np.array([[4, 0, 4]]))),
        _case("ArrayFeatureExtractor", "row", x[2], Const(np.array([1, 5]))),
        _case("ArrayFeatureExtractor", "run_time", f("cube", 2, 3, 4), np.array([2, 0, 3])),
        _case("ArrayFeatureExtractor", "i64", long, Const(np.array([3]))),
        _case("FeatureVectorizer", "cut", x, x * 2, inputdimensions=[4, 9]),
        _case("FeatureVectorizer", "i64", long, inputdimensions=[6]),
        _case("FeatureVectorizer", "row", x[0], inputdimensions=[6]),
    ]  # fmt: skip


def _encoders() -> list[Case]:
    x, long = features("encoded", 5), i("keys", 5, 6, dtype="int64", low=-2, high=9)
    numbers = np.array([0.0, 1.0, float("nan"), -1.0, 0.3], np.float32)

    def tensors(keys: Array, values: Array, default: Any) -> dict[str, Any]:
        parts = {"keys": keys, "values": values, "default": np.array([default], values.dtype)}
        return {f"{k}_tensor": numpy_helper.from_array(v) for k, v in parts.items()}

    four = _floats("v", 4)
    few = np.array([3, 1, -2, 3, 2**62], np.int64)
    return [
        _case("OneHotEncoder", "i64", long, cats_int64s=[3, 1, 2, 1], zeros=1),
        _case("OneHotEncoder", "row", long[0], cats_int64s=[5, 0]),
        _case("OneHotEncoder", "f32", x, cats_int64s=[0, 1, 35, 16777217]),
        _case("OneHotEncoder", "f64", x.astype("float64"), cats_int64s=[0, -1, 2]),
        _case("LabelEncoder", "table", long, keys_int64s=[0, 3, 5, 3], values_floats=four,
              default_float=-7.5),
        _case("LabelEncoder", "i64", long, keys_int64s=[1, 2, 4], values_int64s=[9, -8, 7]),
        _case("LabelEncoder", "sparse", long, **tensors(few, np.arange(5), 77)),
        _case("LabelEncoder", "f32", x, keys_floats=numbers[[0, 1, 3, 4]].tolist(),
              values_int64s=[5, 6, 7, 8], default_int64=3),
        _case("LabelEncoder", "nan", x, **tensors(numbers, np.float32([1, 2, 3, 4, 5]), -0.5)),
        _case("LabelEncoder", "f64", x.astype("float64"),
              **tensors(numbers.astype("float64"), np.arange(5, dtype=np.float64), 9.5)),
    ]  # fmt: skip


def _linear() -> list[Case]:
    x, cases = features("linear", 5, missing=False), []
    numbers = {"f32": x, "f64": x.astype("float64"), "i64": i("lin", 5, 6, dtype="int64"),
               "row": x[0]}  # fmt: skip
    for name in TRANSFORMS:
        # Probit takes shares of one.
        size = {"low": 0.02, "high": 0.1} if name == "PROBIT" else {}
        y = np.abs(x) / 40 if name == "PROBIT" else x
        three = {"coefficients": _floats("c3", 18, **size), "intercepts": _floats("i3", 3, **size)}
        one = {"coefficients": _floats("c1", 6, **size), "intercepts": _floats("i1", 1, **size)}
        three |= {"post_transform": name}
        named = three | {"classlabels_ints": [7, -2, 3]}
        one |= {"post_transform": name}
        cases += [
            _case("LinearRegressor", f"{name}_3", y, targets=3, **three),
            _case("LinearRegressor", f"{name}_1", y, targets=1, **one),
            _case("LinearClassifier", f"{name}_3", y, outputs=2, **named),
        ]
        if name != "PROBIT":
            cases.append(
                _case("LinearClassifier", f"{name}_2", y, outputs=2, classlabels_ints=[4, 9], **one)
            )
    three = {"coefficients": _floats("c3", 18), "intercepts": _floats("i3", 3)}
    cases += [
        _case("LinearClassifier", k, v, outputs=2, classlabels_ints=[0, 1, 2], **three)
        for k, v in numbers.items()
    ]
    return [
        *cases,
        _case("LinearRegressor", "row", x[0], coefficients=_floats("c1", 6)),
    ]


def _machines() -> list[Case]:
    x, vectors = features("machines", 4, missing=False), 7
    kernels: dict[str, dict[str, Any]] = {
        "linear": {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]},
        "square": {"kernel_type": "POLY", "kernel_params": [0.1, 0.5, 2.0]},
        "cube": {"kernel_type": "POLY", "kernel_params": [0.1, 0.5, 3.0]},
        "rbf": {"kernel_type": "RBF", "kernel_params": [0.05, 0.0, 0.0]},
        "sigmoid": {"kernel_type": "SIGMOID", "kernel_params": [0.1, -0.5, 0.0]},
    }
    support = {"support_vectors": _floats("sv", vectors * 6)}
    one = {"n_supports": vectors, "coefficients": _floats("sc", vectors), "rho": [0.3], **support}

    def classes(*counts: int, **more: Any) -> dict[str, Any]:
        pairs = len(counts) * (len(counts) - 1) // 2
        return {
            "vectors_per_class": counts,
            "classlabels_ints": [4, -3, 9][: len(counts)],
            "coefficients": _floats("mc", (len(counts) - 1) * vectors),
            "rho": _floats("rho", pairs),
            **support,
            **more,
        }

    def chances(pairs: int) -> dict[str, Any]:
        return {"prob_a": _floats("pa", pairs, low=-2, high=-1), "prob_b": _floats("pb", pairs)}

    def classifier(label: str, x: Array = x, **attributes: Any) -> Case:
        return _case("SVMClassifier", label, x, outputs=2, **attributes)

    flat = {"classlabels_ints": [5, 6], "rho": [-0.2], "kernel_params": [0.0, 0.0, 0.0]}
    flat_3 = flat | {"classlabels_ints": [1, 2, 3], "post_transform": "LOGISTIC"}
    rbf = kernels["rbf"]
    return [
        *(_case("SVMRegressor", k, x, **one, **v) for k, v in kernels.items()),
        _case("SVMRegressor", "one_class", x, one_class=1, **one, **rbf),
        _case("SVMRegressor", "flat", x, coefficients=_floats("fc", 6), rho=[0.5],
              kernel_params=[0.0, 0.0, 0.0]),
        *(classifier(k, **classes(3, 2, 2), **v) for k, v in kernels.items()),
        classifier("two", **classes(3, 4), **rbf),
        classifier("two_logistic", **classes(3, 4), **rbf, post_transform="LOGISTIC"),
        classifier("two_softmax", **classes(3, 4), **rbf, post_transform="SOFTMAX"),
        classifier("three_softmax", **classes(1, 5, 1), **rbf, post_transform="SOFTMAX"),
        classifier("empty_class", **classes(3, 0, 4), **rbf),
        classifier("two_chances", **classes(3, 4), **rbf, **chances(1)),
        classifier("three_chances", **classes(3, 2, 2), **rbf, **chances(3)),
        classifier("f64", x.astype("float64"), **classes(3, 2, 2), **rbf),
        classifier("i64", i("svmi", 3, 6, dtype="int64"), **classes(3, 2, 2), **rbf),
        classifier("row", x[0], **classes(3, 2, 2), **rbf, **chances(3)),
        classifier("flat_2", coefficients=_floats("fc2", 12), **flat),
        classifier("flat_shares", coefficients=_floats("fc2", 12, low=0.0), **flat),
        classifier("flat_3", coefficients=_floats("fc3", 18), **flat_3),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case."""
    return [*_features(), *_encoders(), *_linear(), *_machines()]
