"""Old operator sets reach the normal form with the meaning they had."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import onnx
import pytest

from mlopsc.importer.normalise import normalise
from mlopsc.importer.normalise.upgrade import OPSET
from mlopsc.reference import Reference
from mlopsc.schema.graph import StageGraph

X = models.random(2, 3, 4)
OLD: dict[str, tuple[int, str, dict[str, Any], list[int]]] = {
    "limits": (6, "Clip", {"min": -0.5, "max": 0.5}, [2, 3, 4]),
    "starts and ends": (9, "Slice", {"starts": [0, 1], "ends": [2, 3], "axes": [1, 2]}, [2, 2, 2]),
    "axes of a reduction": (11, "ReduceSum", {"axes": [1], "keepdims": 0}, [2, 4]),
    "axes of a mean": (13, "ReduceMean", {"axes": [-1]}, [2, 3, 1]),
    "softmax over all later axes": (11, "Softmax", {"axis": 1}, [2, 3, 4]),
    "hardmax over all later axes": (11, "Hardmax", {"axis": 1}, [2, 3, 4]),
    "new axes": (11, "Unsqueeze", {"axes": [0]}, [1, 2, 3, 4]),
    "pads": (2, "Pad", {"pads": [0, 0, 1, 0, 0, 2], "value": 1.5}, [2, 3, 7]),
}


@pytest.mark.parametrize("what", OLD)
def test_attributes_become_inputs_and_mean_the_same(what: str) -> None:
    opset, op, attributes, shape = OLD[what]
    proto = models.model(
        [models.node(op, ["x"], ["y"], **attributes)],
        [models.value("x", X.shape)],
        [models.value("y", shape)],
        opset=opset,
    )
    check(proto, {"x": X})


def test_weights_survive() -> None:
    weights = {"w": models.random(4, 400), "small": models.random(400)}
    proto = models.model(
        [models.node("MatMul", ["x", "w"], ["p"]), models.node("Add", ["p", "small"], ["y"])],
        [models.value("x", X.shape)],
        [models.value("y", [2, 3, 400])],
        weights,
        opset=7,
    )
    check(proto, {"x": X})


def check(proto: onnx.ModelProto, inputs: dict[str, np.ndarray[Any, Any]]) -> None:
    done = normalise(proto, {})
    assert done.opset == OPSET
    literal = Reference([StageGraph("model", proto.SerializeToString())], literal=True)
    np.testing.assert_allclose(
        Reference([done.graph]).run(inputs)["y"], literal.run(inputs)["y"], rtol=1e-6
    )
