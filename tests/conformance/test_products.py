"""Products whose columns do not fill their panels, with what follows them and beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from support import VECTOR_TARGETS, build_conforming

import mlopsc


def network(rows: int, columns: int) -> Any:
    """Two products of the same columns that are added, and one over their sum."""
    weights = {
        "a": models.random(40, columns, seed=1),
        "b": models.random(columns, 40, seed=2),
        "bias": models.random(columns, seed=3),
        "c": models.random(columns, 9, seed=4),
    }
    nodes = [
        models.node("MatMul", ["x", "a"], ["m"]),
        models.node("Gemm", ["x", "b", "bias"], ["g"], transB=1),
        models.node("Tanh", ["g"], ["t"]),
        models.node("Add", ["m", "t"], ["y"]),
        models.node("Softmax", ["y"], ["s"], axis=-1),
        models.node("MatMul", ["s", "c"], ["z"]),
    ]
    outputs = [
        models.value("y", [rows, columns]),
        models.value("z", [rows, 9]),
        models.value("g", [rows, columns]),
    ]
    return models.model(nodes, [models.value("x", [rows, 40])], outputs, weights)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1000), (5, 517)])
def test_columns_that_do_not_exist_are_left_out(
    tmp_path: Path, target: str, rows: int, columns: int
) -> None:
    build_conforming(network(rows, columns), target, tmp_path)


def test_products_of_many_rows_agree_with_exact_ones(tmp_path: Path) -> None:
    weights = {"w": models.random(300, 1003, seed=1)}
    model = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [models.value("x", [2, 50, 300])],
        [models.value("y", [2, 50, 1003])],
        weights,
    )
    models.save(model, tmp_path / "net.onnx")
    mlopsc.build(tmp_path / "net.onnx", "host", tmp_path)
    x = models.random(2, 50, 300, seed=2)
    y = mlopsc.load(tmp_path / "host")({"x": x})["y"]
    exact = x.astype(np.float64) @ weights["w"].astype(np.float64)
    assert np.abs(y - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("depth", [197, 251 * 2])
def test_sums_of_any_length_are_built_strictly(tmp_path: Path, depth: int) -> None:
    nodes = [models.node("MatMul", ["a", "b"], ["y"])]
    inputs = [models.value("a", [3, 40, depth]), models.value("b", [3, depth, 48])]
    made = models.model(nodes, inputs, [models.value("y", [3, 40, 48])], {})
    models.save(made, tmp_path / "m.onnx")
    mlopsc.build(tmp_path / "m.onnx", "host", tmp_path, accuracy="strict")
    report = mlopsc.conform(tmp_path / "host")
    assert report.verdict == "pass", report.outputs
