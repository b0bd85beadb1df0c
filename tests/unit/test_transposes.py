"""Transposes that layouts leave vanish, and what scales channels becomes weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import models
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose

from mlopsc.importer.normalise import normalise
from mlopsc.reference import Reference, run_graph

LAST = [0, 2, 3, 1]  # channels first to last
FIRST = [0, 3, 1, 2]
X = models.random(2, 3, 4, 5)


def after(
    nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, Any] | None = None
) -> Counter[str]:
    """Normalise nodes from ``x`` to ``y``, compare, and count the operators that are left."""
    proto = models.model(
        nodes, [models.value("x", X.shape)], [models.value("y", shape)], constants or {}
    )
    done = normalise(proto, {})
    expected = run_graph(proto.SerializeToString(), {"x": X})["y"]
    given = Reference([done.graph]).run({"x": X})["y"]
    assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    graph = onnx.load_model_from_string(done.model).graph
    return Counter(node.op_type for node in graph.node)


def to_last(name: str = "x", output: str = "t") -> onnx.NodeProto:
    return models.node("Transpose", [name], [output], perm=LAST)


def test_two_that_cancel_vanish_with_what_is_between_them() -> None:
    nodes = [
        to_last(),
        models.node("Mul", ["t", "scale"], ["m"]),
        models.node("Relu", ["m"], ["r"]),
        models.node("Transpose", ["r"], ["y"], perm=FIRST),
    ]
    left = after(nodes, [2, 3, 4, 5], {"scale": models.random(3)})
    assert left["Transpose"] == 0


def test_two_that_do_not_cancel_become_one() -> None:
    nodes = [to_last(), models.node("Transpose", ["t"], ["y"], perm=LAST)]
    assert after(nodes, [2, 5, 3, 4]) == {"Transpose": 1}


@pytest.mark.parametrize(("keep", "shape"), [(0, [2, 3]), (1, [2, 1, 1, 3])])
def test_a_reduction_takes_the_layout_that_is_there(keep: int, shape: list[int]) -> None:
    nodes = [to_last(), models.node("ReduceMean", ["t", "axes"], ["m"], keepdims=keep)]
    nodes.append(models.node("Neg", ["m"], ["y"]))
    left = after(nodes, shape, {"axes": np.array([1, -2])})
    assert left["Transpose"] == (1 if keep else 0)  # its result is an output, in its layout


def test_a_reduction_that_leaves_another_order_keeps_its_transpose() -> None:
    nodes = [to_last(), models.node("ReduceSum", ["t", "axes"], ["y"], keepdims=0)]
    assert after(nodes, [2, 4, 3], {"axes": np.array([2])})["Transpose"] == 1


@pytest.mark.parametrize("transposed", [0, 1])
def test_weights_behind_a_flattened_tensor_are_put_in_order(transposed: int) -> None:
    weights = models.random(7, 60) if transposed else models.random(60, 7)
    nodes = [
        to_last(),
        models.node("Reshape", ["t", "shape"], ["f"]),
        models.node("Gemm", ["f", "w", "b"], ["y"], transB=transposed),
    ]
    constants = {"w": weights, "b": models.random(7, seed=2), "shape": np.array([2, 60])}
    assert after(nodes, [2, 7], constants)["Transpose"] == 0


def test_branches_that_meet_share_the_layout() -> None:
    nodes = [
        models.node("Relu", ["x"], ["a"]),
        models.node("Sigmoid", ["x"], ["b"]),
        to_last("a", "ta"),
        to_last("b", "tb"),
        models.node("Concat", ["ta", "tb"], ["c"], axis=3),
        models.node("Softmax", ["c"], ["s"], axis=-1),
        models.node("Add", ["s", "bias"], ["d"]),
        models.node("ReduceMax", ["d", "axes"], ["y"], keepdims=0),
    ]
    constants = {"bias": models.random(5, 6), "axes": np.array([1, 2])}
    assert after(nodes, [2, 6], constants)["Transpose"] == 0


def test_a_branch_that_others_read_stays() -> None:
    nodes = [
        to_last(),
        models.node("Relu", ["t"], ["r"]),
        models.node("ReduceMean", ["r", "axes"], ["m"], keepdims=1),
        models.node("Add", ["r", "m"], ["y"]),
    ]
    assert after(nodes, [2, 4, 5, 3], {"axes": np.array([1, 2])})["Transpose"] == 1


def test_a_tensor_of_another_layout_stays_out() -> None:
    nodes = [
        to_last(),
        models.node("Reshape", ["x", "shape"], ["o"]),
        models.node("Add", ["t", "o"], ["a"]),
        models.node("Transpose", ["a"], ["y"], perm=FIRST),
    ]
    left = after(nodes, [2, 3, 4, 5], {"shape": np.array([2, 4, 5, 3])})
    assert left["Transpose"] == 2


@pytest.mark.parametrize("cycle", [[1, 0], [1, 2, 0]])
def test_one_that_reads_another_of_the_same_order_may_meet_it(cycle: list[int]) -> None:
    x = models.random(*[3] * len(cycle))
    nodes = [
        models.node("Neg", ["x"], ["n"]),
        models.node("Transpose", ["n"], ["a"], perm=cycle),
        models.node("Transpose", ["a"], ["b"], perm=cycle),
        models.node("Add", ["a", "b"], ["c"]),
        models.node("Transpose", ["c"], ["y"], perm=[int(k) for k in np.argsort(cycle)]),
    ]
    proto = models.model(nodes, [models.value("x", x.shape)], [models.value("y", x.shape)])
    done = normalise(proto, {})
    expected = run_graph(proto.SerializeToString(), {"x": x})["y"]
    assert_allclose(run_graph(done.model, {"x": x})["y"], expected, rtol=1e-6)
    left = Counter(node.op_type for node in onnx.load_model_from_string(done.model).graph.node)
    assert left == {"Neg": 1, "Transpose": 1, "Add": 1}


@pytest.mark.parametrize("first", ["x", "m"])
def test_two_that_cancel_leave_inputs_and_outputs_their_names(first: str) -> None:
    nodes = [
        models.node("Relu", ["x"], ["m"]),
        to_last(first),
        models.node("Transpose", ["t"], ["b"], perm=FIRST),
        models.node("Neg", ["b"], ["y"]),
    ]
    outputs = [models.value(name, X.shape) for name in ("m", "y")]
    proto = models.model(nodes, [models.value("x", X.shape)], outputs)
    done = normalise(proto, {})
    graph = onnx.load_model_from_string(done.model).graph
    assert [v.name for v in (*graph.input, *graph.output)] == ["x", "m", "y"]
    assert [node.op_type for node in graph.node] == ["Relu", "Neg"]
    expected = run_graph(proto.SerializeToString(), {"x": X})
    for name, array in run_graph(done.model, {"x": X}).items():
        assert_allclose(array, expected[name])


def test_scales_and_shifts_of_channels_become_weights() -> None:
    nodes = [
        models.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        models.node("Mul", ["scale", "c"], ["m"]),
        models.node("Add", ["m", "shift"], ["y"]),
    ]
    constants = {
        "w": models.random(6, 3, 3, 3),
        "scale": models.random(1, 6, 1, 1, seed=2),
        "shift": models.random(6, 1, 1, seed=3),
    }
    assert after(nodes, [2, 6, 4, 5], constants) == {"Conv": 1}


@pytest.mark.parametrize(
    ("scale", "weight", "factors"),
    [
        (1e-25, 1e-3, (1e25, 1e25)),
        (1e30, 1e-3, (1e-25, 1e-20)),
        (1e-20, 1e20, (1e20,)),
        (1e20, 1e-20, (1e-20,)),
    ],
)
def test_scales_that_weights_cannot_have_stay(
    scale: float, weight: float, factors: tuple[float, ...]
) -> None:
    f32, names = np.float32, ["c", *"de"[: len(factors) - 1], "y"]
    nodes = [
        models.node("Mul", ["x", "scale"], ["s"]),
        models.node("Conv", ["s", "w", "b"], ["c"]),
        *(models.node("Mul", [a, f"f{k}"], [names[k + 1]]) for k, a in enumerate(names[:-1])),
    ]
    constants = {
        "scale": np.array(scale, f32),
        "w": np.full((1, 3, 1, 1), weight, f32),
        "b": np.zeros(1, f32),
        **{f"f{k}": np.array(factor, f32) for k, factor in enumerate(factors)},
    }
    shape = [2, 1, 4, 5]
    proto = models.model(nodes, [models.value("x", X.shape)], [models.value("y", shape)], constants)
    done = normalise(proto, {})
    expected = X.sum(1, keepdims=True, dtype=np.float64)
    for factor in (scale, weight, *factors):
        expected *= factor
    given = Reference([done.graph]).run({"x": X})["y"]
    assert_allclose(given / np.abs(expected).max(), expected / np.abs(expected).max(), atol=1e-6)
    graph = onnx.load_model_from_string(done.model).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Conv", "Mul"]


def test_a_scale_of_zero_becomes_weights() -> None:
    nodes = [
        models.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        models.node("Mul", ["c", "scale"], ["y"]),
    ]
    constants = {"w": models.random(2, 3, 3, 3), "scale": np.zeros((2, 1, 1), np.float32)}
    assert after(nodes, [2, 2, 4, 5], constants) == {"Conv": 1}


def test_what_differs_within_a_channel_stays() -> None:
    nodes = [
        models.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        models.node("Add", ["c", "shift"], ["y"]),
    ]
    constants = {"w": models.random(6, 3, 3, 3), "shift": models.random(1, 5)}
    assert after(nodes, [2, 6, 4, 5], constants) == {"Conv": 1, "Add": 1}
