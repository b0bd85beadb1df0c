"""Calls skl2onnx, with the converters of this package, and gives the graphs the names of here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import onnx
from onnx import helper

from mlopsc.errors import ConversionError
from mlopsc.frontends.base import versions_of
from mlopsc.frontends.sklearn import trees

_OWN: Final = {
    "sklearn.tree": (
        trees.forest,
        "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    ),
    "sklearn.ensemble": (
        trees.forest,
        "RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor",
    ),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        trees.boosting,
        "HistGradientBoostingClassifier HistGradientBoostingRegressor",
    ),
}


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
    from skl2onnx import convert_sklearn

    options: dict[Any, dict[str, Any]] = {}
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if hasattr(last, "classes_"):
        options[id(last)] = {"zipmap": False, **({"raw_scores": True} if raw_scores else {})}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: onnx.ModelProto = convert_sklearn(
                model,
                name="sklearn",
                initial_types=list(types),
                options=options or None,
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


def _own_converters() -> dict[type, Any]:
    import importlib

    found = {}
    for module, (converter, names) in _OWN.items():
        for name in names.split():
            found[getattr(importlib.import_module(module), name)] = converter
    return found


def _describe(model: Any) -> str:
    if hasattr(model, "steps"):
        return "a Pipeline of " + ", ".join(type(step).__name__ for _, step in model.steps)
    return f"a {type(model).__name__}"


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors of ``model`` other names, in its subgraphs, too."""
    taken = {name for node in model.graph.node for name in node.output} - set(names)
    taken |= {tensor.name for tensor in model.graph.initializer}
    clashes = {name: f"{name}_inner" for name in taken & set(names.values())}
    _rename_graph(model.graph, {**names, **clashes})


def _rename_graph(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _rename_graph(inner, names)


def keep_outputs(model: onnx.ModelProto, count: int) -> None:
    """Drop all outputs after the first ``count``; the importer drops what computes them."""
    del model.graph.output[count:]


def cast_output(model: onnx.ModelProto, code: int) -> None:
    """Make the only output of ``model`` one of type ``code``."""
    (output,) = model.graph.output
    kind = output.type.tensor_type
    if kind.elem_type == code:
        return
    before = f"{output.name}_before_cast"
    rename(model, {output.name: before})
    model.graph.node.append(helper.make_node("Cast", [before], ["cast_output"], to=code))
    output.name = "cast_output"
    kind.elem_type = code
