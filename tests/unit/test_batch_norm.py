"""Batch normalisation after a convolution becomes part of its weights."""

from __future__ import annotations

import models
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import numpy_helper

from mlopsc.importer.normalise import normalise
from mlopsc.reference import Reference, run_graph
from mlopsc.schema.graph import StageGraph

X = models.random(1, 3, 6, 6)
PARAMETERS = {
    "scale": models.random(4),
    "bias": models.random(4, seed=2),
    "mean": models.random(4, seed=3),
    "variance": np.abs(models.random(4, seed=4)) + np.float32(0.1),
}


def network(*, conv_bias: bool = True, shared: bool = False) -> onnx.ModelProto:
    weights = {"w": models.random(4, 3, 3, 3), **PARAMETERS}
    inputs = ["x", "w"]
    if conv_bias:
        weights["b"] = models.random(4, seed=5)
        inputs.append("b")
    nodes = [
        models.node("Conv", inputs, ["c"], pads=[1, 1, 1, 1]),
        models.node("BatchNormalization", ["c", *PARAMETERS], ["y"], epsilon=1e-3),
    ]
    outputs = [models.value("y", [1, 4, 6, 6])]
    if shared:
        outputs.append(models.value("c", [1, 4, 6, 6]))
    return models.model(nodes, [models.value("x", X.shape)], outputs, weights)


@pytest.mark.parametrize("conv_bias", [True, False])
def test_it_is_folded_and_means_the_same(conv_bias: bool) -> None:
    proto = network(conv_bias=conv_bias)
    done = normalise(proto, {})
    assert [n.op_type for n in onnx.load_model_from_string(done.model).graph.node] == ["Conv"]
    expected = run_graph(proto.SerializeToString(), {"x": X})["y"]
    assert_allclose(run_graph(done.model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-5)


def test_a_convolution_that_others_read_keeps_its_weights() -> None:
    proto = network(shared=True)
    done = normalise(proto, {})
    kinds = [n.op_type for n in onnx.load_model_from_string(done.model).graph.node]
    assert kinds == ["Conv", "BatchNormalization"]


@pytest.mark.parametrize(("size", "factor"), [(1e-30, 1e38), (1e30, 1e-38)])
def test_weights_that_would_overflow_or_underflow_stay(size: float, factor: float) -> None:
    proto = network(conv_bias=False)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    scale = np.full(4, factor, np.float32)
    weight = models.random(4, 3, 3, 3) * np.float32(10 if factor > 1 else 0.1)
    for name, array in (("scale", scale), ("w", weight), ("mean", np.zeros(4, np.float32))):
        constants[name].CopyFrom(numpy_helper.from_array(array, name))
    done = normalise(proto, {})
    kinds = [n.op_type for n in onnx.load_model_from_string(done.model).graph.node]
    assert kinds == ["Conv", "BatchNormalization"]
    x = X * np.float32(size)
    stage = StageGraph("model", proto.SerializeToString())
    given = run_graph(done.model, {"x": x})["y"]
    expected = Reference([stage], literal=True).run({"x": x})["y"]
    assert_allclose(given, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_names_may_be_taken() -> None:
    proto = network()
    for text in ("scale", "w"):
        taken = {"scale": "y_bias", "w": "y_weight"}[text]
        for node in proto.graph.node:
            node.input[:] = [taken if name == text else name for name in node.input]
        for tensor in proto.graph.initializer:
            tensor.name = taken if tensor.name == text else tensor.name
    done = normalise(proto, {})
    expected = run_graph(proto.SerializeToString(), {"x": X})["y"]
    assert_allclose(run_graph(done.model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-5)
