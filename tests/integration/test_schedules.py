"""What schedules of CPUs compute, on shapes and graphs that ask for each rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnx.reference
import pytest
from models import node, value
from support import X86_WITH_AVX2, build_conforming

import mlopsc

TARGETS = ["host", X86_WITH_AVX2]
F32 = np.float32


def build(model: onnx.ModelProto, folder: Path, target: str) -> tuple[Any, list[str]]:
    """Return the loaded package and how its kernels are scheduled."""
    models.save(model, folder / "model.onnx")
    mlopsc.import_model(folder / "model.onnx", folder / "model.mlb")
    mlopsc.build(folder / "model.mlb", target, folder / "out")
    report = mlopsc.conform(folder / "out" / target, bundle=folder / "model.mlb")
    assert report.verdict == "pass", report.outputs
    info = json.loads((folder / "out" / target / "model.json").read_text(encoding="utf-8"))
    return mlopsc.load(folder / "out" / target), [k["schedule"] for k in info["kernels"]]


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


@pytest.mark.parametrize("target", TARGETS)
def test_vector_mathematics_is_as_exact_as_the_runtimes(tmp_path: Path, target: str) -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 88.72, -103.9, 0.625, 1.0, 4.0]
    rng = np.random.default_rng(1)
    x = np.concatenate([F32(special), rng.uniform(-100, 88, 500), rng.normal(0, 1, 521)])
    x = x.astype(F32)  # 1033 elements: no multiple of any vector
    ops = ["Exp", "Log", "Tanh", "Erf", "Sigmoid"]
    model = models.model(
        [node(op, ["x"], [op]) for op in ops],
        [value("x", x.shape)],
        [value(op, x.shape) for op in ops],
    )
    package, schedules = build(model, tmp_path, target)
    assert all("lanes" in schedule for schedule in schedules)
    got = package(x=x)
    wide = models.model(
        [node(op, ["x"], [op]) for op in ops],
        [value("x", x.shape, "float64")],
        [value(op, x.shape, "float64") for op in ops],
    )
    with np.errstate(all="ignore"):
        exact = onnx.reference.ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float64)})
        for op, true in zip(ops, exact, strict=True):
            rounded = true.astype(F32)
            np.testing.assert_array_equal(np.isnan(got[op]), np.isnan(rounded), op)
            np.testing.assert_array_equal(np.isinf(got[op]), np.isinf(rounded), op)
            finite = np.isfinite(rounded) & (np.abs(rounded) > 1e-37)
            error = np.abs(got[op] - true)[finite] / np.spacing(np.abs(rounded[finite]))
            assert error.max() < 3, op


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("width", [5, 13, 17, 55])
def test_convolutions_of_odd_widths(tmp_path: Path, target: str, width: int) -> None:
    w = random(24, 20, 3, 3, seed=1) / F32(12)
    model = models.model(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "v", "bias"], ["c"]),
            node("HardSwish", ["c"], ["y"]),
        ],
        [value("x", [1, 20, 9, width])],
        [value("y", [1, 17, 9, width])],
        {"w": w, "v": random(17, 24, 1, 1, seed=2) / F32(5), "bias": random(17, seed=3)},
    )
    _, schedules = build(model, tmp_path, target)
    assert any("lanes" in schedule for schedule in schedules)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 37, 96), (29, 64, 72), (197, 48, 64)])
def test_products_and_what_is_fused_into_them(
    tmp_path: Path, target: str, rows: int, depth: int, columns: int
) -> None:
    """Bias, the parts of GELU and a residual; the plain form for the mean that follows."""
    model = models.model(
        [
            node("MatMul", ["x", "w"], ["p"]),
            node("Add", ["p", "bias"], ["a"]),
            node("Mul", ["a", "root"], ["s"]),
            node("Erf", ["s"], ["e"]),
            node("Add", ["e", "one"], ["f"]),
            node("Mul", ["a", "f"], ["g"]),
            node("Add", ["g", "r"], ["z"]),
            node("ReduceMean", ["z"], ["m"], axes=[-1]),
            node("Sub", ["z", "m"], ["y"]),
        ],
        [value("x", [1, rows, depth]), value("r", [1, rows, columns])],
        [value("y", [1, rows, columns])],
        {
            "w": random(depth, columns) / F32(8),
            "bias": random(columns, seed=4),
            "root": F32(0.70710678),
            "one": F32(1),
        },
        opset=17,
    )
    _, schedules = build(model, tmp_path, target)
    assert any(schedule.startswith("tile") and "lanes" in schedule for schedule in schedules)


@pytest.mark.parametrize("transposed", [0, 1])
def test_sums_are_taken_in_parts_where_the_cache_is_small(tmp_path: Path, transposed: int) -> None:
    """With 64 KiB, half of which are for 40 rows and two panels: four parts of 128 columns."""
    hardware = "vector_bits = 128\nregisters = 16\nfma = false\npointer_bits = 64"
    path = tmp_path / "small.toml"
    path.write_text(f'name = "small"\nextends = "host"\n[hardware]\n{hardware}\nl2_bytes = 65536\n')
    w = random(512, 96) / F32(23)
    model = models.model(
        [node("Gemm", ["x", "w", "c"], ["p"], transB=transposed), node("Relu", ["p"], ["y"])],
        [value("x", [40, 512])],
        [value("y", [40, 96])],
        {"w": w.T if transposed else w, "c": random(96, seed=1)},
    )
    models.save(model, tmp_path / "model.onnx")
    mlopsc.import_model(tmp_path / "model.onnx", tmp_path / "model.mlb")
    mlopsc.build(tmp_path / "model.mlb", str(path), tmp_path / "out")
    report = mlopsc.conform(tmp_path / "out" / "small", bundle=tmp_path / "model.mlb")
    assert report.verdict == "pass", report.outputs
    info = json.loads((tmp_path / "out" / "small" / "model.json").read_text(encoding="utf-8"))
    assert len([k for k in info["kernels"] if "matmul" in k["symbol"]]) == 4


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_a_bias_of_one_element(tmp_path: Path, transposed: int) -> None:
    w = random(40, 30) if transposed else random(30, 40)
    model = models.model(
        [node("Gemm", ["x", "w", "c"], ["y"], transB=transposed)],
        [value("x", [3, 30])],
        [value("y", [3, 40])],
        {"w": w, "c": F32([0.5])},
    )
    build(model, tmp_path, "host")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [31, 64, 100, 197])
def test_rows_of_any_length(tmp_path: Path, target: str, size: int) -> None:
    model = models.model(
        [
            node("Softmax", ["x"], ["s"], axis=-1),
            node("ReduceSum", ["x", "last"], ["t"], keepdims=0),
            node("ReduceMax", ["x"], ["l"], axes=[-1], keepdims=0),
        ],
        [value("x", [2, 7, size])],
        [value("s", [2, 7, size]), value("t", [2, 7]), value("l", [2, 7])],
        {"last": np.int64([-1])},
        opset=17,
    )
    build(model, tmp_path, target)


def test_a_chain_whose_values_are_needed_twice(tmp_path: Path) -> None:
    """A finding: tails that overlap compute twice, which must not be in place of an operand."""
    model = models.model(
        [
            node("Gemm", ["x", "w"], ["p"]),
            node("Mul", ["p", "p"], ["a"]),
            node("Sub", ["one", "a"], ["b"]),
            node("Abs", ["b"], ["c"]),
            node("Sqrt", ["c"], ["d"]),
            node("Sub", ["d", "a"], ["e"]),
            node("Mul", ["e", "e"], ["f"]),
            node("Add", ["f", "c"], ["g"]),
            node("Sqrt", ["g"], ["h"]),
            node("Sub", ["h", "d"], ["y"]),
        ],
        [value("x", [5, 7])],
        [value("y", [5, 3])],
        {"w": random(7, 3), "one": F32(1)},
    )
    build(model, tmp_path, "host")


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_points_are_products(tmp_path: Path, groups: int) -> None:
    model = models.model(
        [
            node("Conv", ["x", "w", "b"], ["a"], group=groups),
            node("Relu", ["a"], ["y"]),
        ],
        [value("x", [2, 12, 5, 7])],
        [value("y", [2, 18, 5, 7])],
        {"w": random(18, 12 // groups, 1, 1), "b": random(18, seed=2)},
    )
    build(model, tmp_path, "host")


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_truth_values_along_the_first_axis(tmp_path: Path, op: str) -> None:
    """A finding: there are no vectors of truth values."""
    model = models.model(
        [node(op, ["x", "first"], ["y"], keepdims=0)],
        [value("x", [3, 32], "bool")],
        [value("y", [32], "bool")],
        {"first": np.int64([0])},
        opset=20,
    )
    build(model, tmp_path, "host")


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6), (6, 1), (1, 1)])
def test_biases_of_every_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A finding: a column was taken for a row where there are as many rows as columns."""
    model = models.model(
        [node("Gemm", ["x", "w", "c"], ["y"])],
        [value("x", [6, 5])],
        [value("y", [6, 6])],
        {"w": random(5, 6), "c": random(*shape, seed=1)},
    )
    package, _ = build(model, tmp_path, "host")
    x = random(6, 5, seed=2)
    expected = x @ random(5, 6) + random(*shape, seed=1)
    np.testing.assert_allclose(package(x=x)["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [9, 16, 20])
def test_channels_that_do_not_exist_stay_0(tmp_path: Path, channels: int) -> None:
    """A finding: an infinity in the input made them NaN, which the next convolution spread."""
    model = models.model(
        [
            node("Conv", ["x", "w"], ["a"]),
            node("Clip", ["a", "low", "high"], ["b"]),
            node("Conv", ["b", "v"], ["y"]),
        ],
        [value("x", [1, 3, 4, 4])],
        [value("y", [1, 8, 4, 4])],
        {
            "w": np.abs(random(channels, 3, 1, 1)),
            "v": random(8, channels, 1, 1, seed=1),
            "low": F32(0),
            "high": F32(6),
        },
    )
    package, _ = build(model, tmp_path, "host")
    x = random(1, 3, 4, 4)
    x[0, 1, 2, 2] = np.inf
    assert np.isfinite(package(x=x)["y"]).all()


def test_layer_normalization_of_a_large_mean(tmp_path: Path) -> None:
    """A finding: ONNX's own body takes the difference of two large means."""
    model = models.model(
        [node("LayerNormalization", ["x", "scale"], ["y"])],
        [value("x", [4, 64])],
        [value("y", [4, 64])],
        {"scale": np.ones(64, F32)},
    )
    package, _ = build(model, tmp_path, "host")
    x = random(4, 64) + F32(1000)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(package(x=x)["y"], expected, atol=2e-3)


def test_a_long_chain_of_values_that_are_used_twice_compiles(tmp_path: Path) -> None:
    nodes, x = [], "x"
    for number in range(24):  # inlined one into the other they would be 2 ** 24 expressions
        nodes.append(models.node("Sigmoid", [x], [f"s{number}"]))
        nodes.append(models.node("Mul", [x, f"s{number}"], [f"m{number}"]))
        x = f"m{number}"
    made = models.model(nodes, [models.value("x", [1, 64])], [models.value(x, [1, 64])], {})
    build_conforming(made, "host", tmp_path)
