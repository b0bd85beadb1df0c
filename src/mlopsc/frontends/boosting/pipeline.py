"""Lets skl2onnx convert estimators of XGBoost, LightGBM and CatBoost, as ends of Pipelines."""

from __future__ import annotations

import sys
from typing import Any, Final

from mlopsc.frontends.base import LoadOptions
from mlopsc.frontends.boosting.forest import Ensemble
from mlopsc.frontends.boosting.original import Boosted
from mlopsc.frontends.boosting.write import Graph, add_answers

# Module that is imported if there is such an estimator, its frontend, and the estimators.
_ESTIMATORS: Final = (
    ("xgboost", "xgboost", ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor",
                            "XGBRanker")),
    ("lightgbm", "lightgbm", ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")),
    ("catboost", "catboost", ("CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")),
)  # fmt: skip
_TABULAR: Final = 3  # version of ai.onnx.ml that skl2onnx's converters write


def register_converters() -> None:
    """Tell skl2onnx how to convert the estimators whose libraries are imported."""
    from skl2onnx import update_registered_converter

    for module, _, names in _ESTIMATORS:
        for name in names:
            estimator = getattr(sys.modules.get(module), name, None)
            if estimator is None:
                continue
            classifies = name.endswith("Classifier")
            options = {"zipmap": [True, False, "columns"]}  # Pipelines ask for it; it is never made
            update_registered_converter(
                estimator,
                f"Mlopsc{name}",
                _classifier_shapes if classifies else _number_shapes,
                _convert,
                overwrite=True,
                parser=_parse_classifier if classifies else None,
                options=options if classifies else None,
            )


def _ensemble(estimator: Any) -> Ensemble:
    from mlopsc.frontends import frontend

    for _, name, _ in _ESTIMATORS:
        original = frontend(name).wrap(estimator, None, LoadOptions())
        if isinstance(original, Boosted):
            return original.ensemble
    raise TypeError(f"a {type(estimator).__name__} is no boosted model")


def _parse_classifier(
    scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None
) -> list[Any]:
    """Return the label and the probabilities; skl2onnx knows its own kinds of classifiers only."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    del custom_parsers
    operator = scope.declare_local_operator(f"Mlopsc{type(model).__name__}", model)
    operator.inputs = inputs
    for name, kind in (("label", Int64TensorType), ("probabilities", FloatTensorType)):
        operator.outputs.append(scope.declare_local_variable(name, kind()))
    return list(operator.outputs)


def _rows(operator: Any) -> Any:
    return operator.inputs[0].get_first_dimension()


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    ensemble = _ensemble(operator.raw_operator)
    labels = ensemble.labels or ()
    kind = StringTensorType if any(isinstance(c, str) for c in labels) else Int64TensorType
    shape = [_rows(operator), ensemble.targets] if ensemble.many else [_rows(operator)]
    operator.outputs[0].type = kind(shape)
    width = max(ensemble.targets, len(labels))
    operator.outputs[1].type = FloatTensorType([_rows(operator), width])


def _number_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    targets = _ensemble(operator.raw_operator).targets
    operator.outputs[0].type = FloatTensorType([_rows(operator), targets])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator to a graph that skl2onnx makes."""
    import onnx

    ensemble = _ensemble(operator.raw_operator)
    graph = Graph(f"{scope.get_unique_operator_name('boosted')}_", _TABULAR)
    x = graph.add("Cast", operator.inputs[0].full_name, to=onnx.TensorProto.FLOAT)
    answers = add_answers(graph, ensemble, x, named=False)
    for answer, output in zip(answers, operator.outputs, strict=True):
        graph.add("Identity", answer, name=output.full_name)
    for tensor in graph.initializers:
        array = onnx.numpy_helper.to_array(tensor)
        container.add_initializer(tensor.name, tensor.data_type, array.shape, array.ravel())
    for node in graph.nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        version = {"op_version": 1} if node.domain else {}
        container.add_node(
            node.op_type, list(node.input), list(node.output), op_domain=node.domain,
            name=node.name, **version, **attributes,
        )  # fmt: skip
