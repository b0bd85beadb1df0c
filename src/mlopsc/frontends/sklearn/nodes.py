"""Writes nodes into skl2onnx's container: what the converters of this package share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

Array = np.ndarray[Any, Any]


class Writer:
    """Writes the nodes of one operator."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        """Take what skl2onnx gives a converter."""
        self._scope = scope
        self._operator = operator
        self._container = container

    def add(self, op_type: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        (name,) = self.several(op_type, inputs, 1, domain, **attributes)
        return name

    def several(
        self, op_type: str, inputs: Sequence[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node and return the names of its ``count`` outputs."""
        unique = self._scope.get_unique_variable_name
        names = [str(unique(op_type.lower())) for _ in range(count)]
        self._add(op_type, inputs, names, domain, **attributes)
        return names

    def constant(self, value: Any) -> str:
        """Add an initializer and return its name."""
        array = np.asarray(value)
        name = str(self._scope.get_unique_variable_name("constant"))
        if array.dtype.kind in "OSU":
            values = [str(one).encode() for one in array.ravel()]
            self._container.add_initializer(
                name, onnx.TensorProto.STRING, list(array.shape), values
            )
            return name
        code = helper.np_dtype_to_tensor_dtype(array.dtype)
        self._container.add_initializer(name, code, list(array.shape), array.ravel().tolist())
        return name

    def features(self) -> str:
        """Return the input as float32: scikit-learn's trees look at features in this type."""
        from skl2onnx.common.data_types import FloatTensorType

        (given,) = self._operator.inputs
        name = str(given.full_name)
        if isinstance(given.type, FloatTensorType):
            return name
        return self.add("Cast", [name], to=onnx.TensorProto.FLOAT)

    def numbers(self) -> tuple[str, type]:
        """Return the input in the type that the operator computes in, and this type."""
        from skl2onnx.common.data_types import DoubleTensorType

        (given,) = self._operator.inputs
        if isinstance(given.type, DoubleTensorType):
            return str(given.full_name), np.float64
        return self.features(), np.float32

    def columns(self) -> list[tuple[str, type]]:
        """Return each column of the inputs, and the type of its values."""
        from skl2onnx.common import data_types

        kinds = {
            data_types.FloatTensorType: np.float32,
            data_types.DoubleTensorType: np.float64,
            data_types.Int64TensorType: np.int64,
            data_types.StringTensorType: str,
        }
        found: list[tuple[str, type]] = []
        for given in self._operator.inputs:
            kind, width = kinds[type(given.type)], given.type.shape[1]
            for place in range(width):
                name = str(given.full_name)
                if width > 1:
                    name = self.add("Gather", [name, self.constant(np.asarray([place]))], axis=1)
                found.append((name, kind))
        return found

    def classify(self, scores: str, classes: Array) -> None:
        """Write label and scores: the first of the classes with the largest score."""
        place = self.add("ArgMax", [scores], axis=1, keepdims=0)
        self.finish([self._label(place, classes), scores])

    def decide(self, score: str, classes: Array) -> None:
        """Write label and score of two classes: the second one if its score is positive."""
        positive = self.add("Greater", [score, self.constant(np.float32(0))])
        place = self.add("Cast", [positive], to=onnx.TensorProto.INT64)
        place = self.add("Squeeze", [place, self.constant(np.asarray([1], np.int64))])
        self.finish([self._label(place, classes), score])

    def finish(self, results: Sequence[str]) -> None:
        """Make ``results`` the operator's outputs, in their declared types."""
        from skl2onnx.common.data_types import DoubleTensorType

        for result, output in zip(results, self._operator.outputs, strict=True):
            if isinstance(output.type, DoubleTensorType):
                self._add("Cast", [result], [str(output.full_name)], to=onnx.TensorProto.DOUBLE)
            else:
                self._add("Identity", [result], [str(output.full_name)])

    def _label(self, place: str, classes: Array) -> str:
        table = np.asarray(classes)
        if table.dtype.kind not in "OSU":
            table = table.astype(np.int64)
        return self.add("Gather", [self.constant(table), place], axis=0)

    def _add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: list[str],
        domain: str = "",
        **attributes: Any,
    ) -> None:
        versions = {"op_domain": domain, "op_version": 3} if domain else {}
        self._container.add_node(
            op_type,
            list(inputs),
            outputs,
            name=self._scope.get_unique_operator_name(op_type),
            **versions,
            **attributes,
        )
