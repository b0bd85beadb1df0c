"""Single operators, built as whole models are, beside ONNX Runtime on one thread.

``python -m pytest benchmarks/test_kernels.py -n 0 --benchmark-enable`` measures, a group for each
operator. Without the last option every operator is built, proven and called once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import pytest
from engines import ENGINES, Subject
from pytest_benchmark.fixture import BenchmarkFixture
from store import build_package
from zoo.graph import Graph
from zoo.inputs import draw_inputs

TOLERANCE = 1e-4  # of the largest value
PICTURE = (1, 64, 56, 56)


def _conv(kernel: int, groups: int) -> onnx.ModelProto:
    g = Graph(f"conv{kernel}x{kernel}g{groups}")
    g.output(
        g.conv(g.input("x", PICTURE), (64, 64), kernel, groups=groups, bias=True), "y", PICTURE
    )
    return g.model()


def _product(rows: int, inner: int, columns: int) -> onnx.ModelProto:
    g = Graph(f"product{rows}x{inner}x{columns}")
    y = g.linear(g.input("x", (rows, inner)), (inner, columns))
    g.output(y, "y", (rows, columns))
    return g.model()


def _softmax() -> onnx.ModelProto:
    g, shape = Graph("softmax"), (12, 128, 128)
    g.output(g.op("Softmax", g.input("x", shape), axis=-1), "y", shape)
    return g.model()


def _layer_norm() -> onnx.ModelProto:
    g, shape = Graph("layer_norm"), (1, 128, 768)
    g.output(g.layer_norm(g.input("x", shape), 768, "op"), "y", shape)
    return g.model()


def _attention(length: int) -> onnx.ModelProto:
    g, shape = Graph(f"attention{length}"), (1, 12, length, 64)
    query, key, value = (g.input(name, shape) for name in ("query", "key", "value"))
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    weights = g.op("Softmax", g.op("Div", scores, g.constant(8.0)), axis=-1)
    g.output(g.op("MatMul", weights, value), "y", shape)
    return g.model()


def _pooling() -> onnx.ModelProto:
    g = Graph("pooling")
    y = g.op("MaxPool", g.input("x", PICTURE), kernel_shape=[3, 3], strides=[2, 2],
             pads=[1, 1, 1, 1])  # fmt: skip
    g.output(y, "y", (1, 64, 28, 28))
    return g.model()


def _transpose() -> onnx.ModelProto:
    g = Graph("transpose")
    g.output(g.op("Transpose", g.input("x", PICTURE), perm=[0, 2, 3, 1]), "y", (1, 56, 56, 64))
    return g.model()


KERNELS: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    "conv3x3": lambda: _conv(3, 1),
    "conv1x1": lambda: _conv(1, 1),
    "depthwise3x3": lambda: _conv(3, 64),
    "gemm128x768x3072": lambda: _product(128, 768, 3072),
    "matvec768x3072": lambda: _product(1, 768, 3072),
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "attention128": lambda: _attention(128),
    "attention1024": lambda: _attention(1024),
    "max_pool3x3": _pooling,
    "transpose": _transpose,
}


@pytest.fixture(scope="module", params=list(KERNELS))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A single operator with its package, which conforms."""
    folder = tmp_path_factory.mktemp(request.param)
    model, path = KERNELS[request.param](), folder / f"{request.param}.onnx"
    onnx.save(model, path)
    built = build_package(path, folder)
    assert built.package is not None, built.failure
    return Subject(path, built, draw_inputs(model, 0))


@pytest.mark.parametrize("engine", ["mlopsc", "onnxruntime"])
def test_kernel(benchmark: BenchmarkFixture, subject: Subject, engine: str) -> None:
    """Times one call; what it returns is ONNX Runtime's answer."""
    benchmark.group = subject.model.stem
    (expected,) = ENGINES["onnxruntime"].prepare(subject, 1)()
    (found,) = benchmark(ENGINES[engine].prepare(subject, 1))
    limit = TOLERANCE * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
