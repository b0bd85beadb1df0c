"""Corners of quantised operators: what is filled in, merged, broadcast or has no dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest
from quantised_cases import QuantisedGraph

import mlopsc
from mlopsc.schema.bundle import Manifest

Case = Callable[[QuantisedGraph], object]
TYPES = ("int8", "uint8", "int16")


def imported(case: Case, dtype: str, folder: Path) -> Manifest:
    """Import a model, which holds every layer against the reference runtime."""
    graph = QuantisedGraph(dtype=dtype, seed=1)
    case(graph)
    models.save(graph.model(), folder / "net.onnx")
    return mlopsc.import_model(folder / "net.onnx", folder / "net.mlb").manifest


def filled(number: float) -> Case:
    """Pad with a number between two steps of the input's scale, or outside its range."""

    def case(g: QuantisedGraph) -> None:
        fine, pads = np.float32(g.scale()), g.constant(np.array([0, 2, 0, 1], np.int64))
        x = g.read((2, 5), np.float32(fine * 100))
        fill = g.constant(np.float32(number * fine))
        g.write(g.op("Relu", [g.op("Pad", [x, pads, fill])]), fine)

    return case


def largest(g: QuantisedGraph) -> None:
    g.write(g.op("Relu", [g.op("GlobalMaxPool", [g.read((2, 3, 5, 4))])]))


def numbers(g: QuantisedGraph) -> None:
    g.write(g.op("Add", [g.read(()), g.read((2, 3))]))
    g.write(g.op("Relu", [g.read(())]))


def constants(g: QuantisedGraph) -> None:
    """Add and multiply by quantised constants: of one element a channel, and of all elements."""
    for op, shape in (("Add", (3, 1, 1)), ("Mul", (1, 3, 4, 4)), ("Sub", (1, 3, 4, 4))):
        constant = g.dequantize(g.constant(g.rng.integers(0, 100, shape).astype(g.dtype)))
        x = g.read((1, 3, 4, 4))
        g.write(g.op(op, [constant, x] if op == "Sub" else [x, constant]))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(filled(37.0), id="between two steps"),
        pytest.param(filled(1e9), id="out of range"),
        pytest.param(filled(-9.0), id="clamped"),
        constants,
        largest,
        numbers,
    ],
)
def test_corner_is_integer(case: Case, dtype: str, tmp_path: Path) -> None:
    found = imported(case, dtype, tmp_path)
    assert found.vectors.arithmetic == "integer"
    assert found.integers is not None
    assert found.integers.largest_step <= 1


def bias_of_rows(g: QuantisedGraph) -> None:
    weight, _ = g.weight((2, 8), 0)
    bias = g.constant(np.array([[100.0], [-300.0]], np.float32))
    g.write(g.op("Gemm", [g.read((2, 8)), weight, bias], transB=1))


def more_dimensions(g: QuantisedGraph) -> None:
    """Multiply by one, which adds a dimension, within one quantisation."""
    scale, point = np.float32(0.01), g.zero()
    g.zero = lambda: point
    product = g.op("Mul", [g.read((2, 5), scale), g.constant(np.ones((1, 1, 1), np.float32))])
    g.write(product, scale)


def computed_twice(g: QuantisedGraph) -> None:
    """The same operator twice, with results of different scales."""
    x = g.read((1, 4, 3, 3))
    weight, _ = g.weight((2, 4, 1, 1), 0)
    for _ in range(2):
        g.write(g.op("Conv", [x, weight]))


def coarse(g: QuantisedGraph) -> None:
    """Give products of 16 bits a factor of which few bits are left."""
    g.write(g.op("MatMul", [g.read((2, 4, 30)), g.read((2, 30, 3))]), np.float32(2.0))


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(bias_of_rows, "int8"), (more_dimensions, "int8"), (computed_twice, "int8"),
     (coarse, "int16")],
)  # fmt: skip
def test_corner_stays_a_float(case: Case, dtype: str, tmp_path: Path) -> None:
    assert imported(case, dtype, tmp_path).vectors.arithmetic == "float"


@pytest.mark.parametrize("target", ["host", pytest.param("cortex-m7", marks=pytest.mark.slow)])
def test_corners_have_the_same_bits(target: str, tmp_path: Path) -> None:
    def case(g: QuantisedGraph) -> None:
        for part in (filled(37.0), filled(-9.0), constants, largest, numbers):
            part(g)

    imported(case, "uint8", tmp_path)
    mlopsc.build(tmp_path / "net.mlb", target, tmp_path)
    report = mlopsc.conform(tmp_path / target)
    assert report.verdict == "pass"
    assert not any(output.max_absolute for output in report.outputs)
