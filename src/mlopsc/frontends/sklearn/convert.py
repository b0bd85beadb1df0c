"""Calls skl2onnx, with the converters of this package, and gives the graphs the names of here."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlopsc.errors import ConversionError
from mlopsc.frontends.base import versions_of
from mlopsc.frontends.boosting.pipeline import register_converters
from mlopsc.frontends.onnx_names import rename_values
from mlopsc.frontends.sklearn import mended, samples, trees

_FOREST: Final = trees.forest
_BOOSTING: Final = trees.boosting
_HISTOGRAM: Final = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"
# Module, class and converter; the modules are imported when something is converted.
_OWN: Final = (
    ("sklearn.tree", "DecisionTreeClassifier", _FOREST),
    ("sklearn.tree", "DecisionTreeRegressor", _FOREST),
    ("sklearn.tree", "ExtraTreeClassifier", _FOREST),
    ("sklearn.tree", "ExtraTreeRegressor", _FOREST),
    ("sklearn.ensemble", "RandomForestClassifier", _FOREST),
    ("sklearn.ensemble", "RandomForestRegressor", _FOREST),
    ("sklearn.ensemble", "ExtraTreesClassifier", _FOREST),
    ("sklearn.ensemble", "ExtraTreesRegressor", _FOREST),
    (_HISTOGRAM, "HistGradientBoostingClassifier", _BOOSTING),
    (_HISTOGRAM, "HistGradientBoostingRegressor", _BOOSTING),
    ("sklearn.neighbors", "KNeighborsClassifier", samples.neighbours),
    ("sklearn.neighbors", "KNeighborsRegressor", samples.neighbours),
    ("sklearn.impute", "KNNImputer", samples.impute),
    ("sklearn.svm", "SVR", samples.support_vectors),
    ("sklearn.svm", "NuSVR", samples.support_vectors),
    ("sklearn.svm", "OneClassSVM", samples.support_vectors),
    ("sklearn.cluster", "KMeans", mended.k_means),
    ("sklearn.cluster", "MiniBatchKMeans", mended.k_means),
    ("sklearn.preprocessing", "OneHotEncoder", mended.one_hot),
    (
        "sklearn.preprocessing",
        "KBinsDiscretizer",
        mended.with_parameters("SklearnKBinsDiscretizer", encode=("onehot", "onehot-dense")),
    ),
    (
        "sklearn.ensemble",
        "VotingClassifier",
        mended.with_parameters("SklearnVotingClassifier", flatten_transform=(True, False)),
    ),
)
# What skl2onnx's converters write; ONNX Runtime runs it, and so does the importer.
_TABULAR_OPSET: Final = 3


def convert(
    model: Any, types: Sequence[tuple[str, Any]], *, raw_scores: bool = False
) -> onnx.ModelProto:
    """Return an estimator, a transformer or a Pipeline as ONNX.

    Args:
        model: Fitted.
        types: Names and types of its inputs, as skl2onnx takes them.
        raw_scores: Whether a classifier gives what its ``decision_function`` does.

    Raises:
        ConversionError: skl2onnx fails.
    """
    from skl2onnx import convert_sklearn, get_latest_tested_opset_version

    register_converters()
    opsets = {"": get_latest_tested_opset_version(), "ai.onnx.ml": _TABULAR_OPSET}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: onnx.ModelProto = convert_sklearn(
                model,
                name="sklearn",
                initial_types=list(types),
                options=_options(model, raw_scores),
                target_opset=opsets,
                custom_conversion_functions=_own_converters(),
            )
        return made
    except (ConversionError, MemoryError):
        raise
    except Exception as error:  # skl2onnx raises whatever comes
        text = " ".join(str(error).partition("attributes=")[0].split())
        raise ConversionError(
            f"{versions_of('skl2onnx')} cannot convert {_describe(model)}: "
            f"{type(error).__name__}: {text[:300]}",
            hint="docs/frontends/sklearn.md lists the estimators that are tested",
        ) from error


def _options(model: Any, raw_scores: bool) -> dict[Any, dict[str, Any]] | None:
    """Return the options that the answering estimator's converter knows: no maps, raw scores."""
    from skl2onnx._supported_operators import _get_sklearn_operator_name
    from skl2onnx.common._registration import _converter_pool

    last = model.steps[-1][1] if hasattr(model, "steps") else model
    try:
        known = _converter_pool[_get_sklearn_operator_name(type(last))].get_allowed_options() or {}
    except (KeyError, RuntimeError):
        return None
    wanted = {"zipmap": False, **({"raw_scores": True} if raw_scores else {})}
    found = {key: value for key, value in wanted.items() if key in known}
    return {id(last): found} if found else None


def _own_converters() -> dict[type, Any]:
    return {
        getattr(importlib.import_module(module), name): converter
        for module, name, converter in _OWN
    }


def _describe(model: Any) -> str:
    if hasattr(model, "steps"):
        return "a Pipeline of " + ", ".join(type(step).__name__ for _, step in model.steps)
    return f"a {type(model).__name__}"


def name_inputs(model: onnx.ModelProto, names: Sequence[str | None]) -> None:
    """Give the inputs of ``model`` names, in their order; None drops one that nothing reads.

    skl2onnx calls them what the columns are called, but not what is no identifier or there twice.
    """
    for place in reversed(range(len(names))):
        if names[place] is None:
            del model.graph.input[place]
    kept = [name for name in names if name is not None]
    given = [value.name for value in model.graph.input]
    rename_values(model.graph, dict(zip(given, kept, strict=True)))


def keep_outputs(model: onnx.ModelProto, count: int) -> None:
    """Drop all outputs after the first ``count``; the importer drops what computes them."""
    del model.graph.output[count:]


def second_column(model: onnx.ModelProto, name: str) -> None:
    """Reduce output ``name`` with a column for each of two classes to that of the second."""
    before = f"{name}_of_both"
    rename_values(model.graph, {name: before})
    place = numpy_helper.from_array(np.asarray([1], np.int64), f"{name}_place")
    model.graph.initializer.append(place)
    model.graph.node.append(helper.make_node("Gather", [before, place.name], [name], axis=1))
    for output in model.graph.output:
        if output.name == before:
            output.name = name
            output.type.tensor_type.shape.dim[1].dim_value = 1


def cast_output(model: onnx.ModelProto, code: int) -> None:
    """Make the only output of ``model`` one of type ``code``."""
    (output,) = model.graph.output
    kind = output.type.tensor_type
    if kind.elem_type == code:
        return
    before = f"{output.name}_before_cast"
    rename_values(model.graph, {output.name: before})
    model.graph.node.append(helper.make_node("Cast", [before], ["cast_output"], to=code))
    output.name = "cast_output"
    kind.elem_type = code
