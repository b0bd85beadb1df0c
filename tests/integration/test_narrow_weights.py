"""Weights of 4 bits lie two in a byte where hand-written kernels compute a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from onnx import numpy_helper
from quantised_cases import QuantisedGraph

import mlopsc
from mlopsc.schema.package import Package

FAMILIES = {"conv": 2, "depthwise": 1, "dense": 1}  # layers of the network


def network(weight_dtype: str) -> Any:
    """A stem on three channels, a depthwise and a pointwise convolution; a product beside them."""
    net = QuantisedGraph(weight_dtype=weight_dtype, seed=3)

    def again(value: str, scale: float) -> str:
        given = [net.constant(np.array(scale, np.float32)), net.constant(net.zero())]
        return net.op("DequantizeLinear", [net.op("QuantizeLinear", [value, *given]), *given])

    def conv(x: str, features: int, depth: int, size: int, **attributes: Any) -> str:
        weight, scales = net.weight((features, depth, size, size), 0)
        pads = [size // 2] * 4
        y = net.op("Conv", [x, weight, net.bias(features, scales)], pads=pads, **attributes)
        return again(y, 0.3)

    x = conv(net.read((1, 3, 9, 7)), 32, 3, 3)
    x = conv(conv(x, 32, 1, 3, group=32), 48, 32, 1)
    net.write(x, np.float32(0.3))
    weight, scales = net.weight((48, 10), 1)
    y = net.op("MatMul", [net.read((1, 48)), weight])
    net.write(net.op("Add", [y, net.bias(10, scales)]), np.float32(0.2))
    return net.model()


def build(folder: Path, target: str, model: Any) -> Package:
    folder.mkdir(exist_ok=True)
    models.save(model, folder / "net.onnx")
    mlopsc.import_model(folder / "net.onnx", folder / "net.mlb")
    package = mlopsc.build(folder / "net.mlb", target, folder)[target]
    report = mlopsc.conform(folder / target, bundle=folder / "net.mlb")
    assert report.verdict == "pass"
    assert all(o.tolerance == 0.0 for o in report.outputs)
    return package


def count(package: Package, bits: int) -> dict[str, int]:
    """Return how many layers of each family have weights of so many bits."""
    schedules = [k.schedule for k in package.kernels]
    return {f: sum(s.startswith(f"{f}_s{bits}_") for s in schedules) for f in FAMILIES}


@pytest.mark.parametrize(
    "target",
    [
        "cortex-m4f",
        pytest.param("cortex-m3", marks=pytest.mark.slow),
        pytest.param("cortex-m55", marks=[pytest.mark.slow, pytest.mark.tool("qemu-system-arm")]),
        pytest.param("riscv32-imc", marks=pytest.mark.slow),
    ],
)
def test_weights_of_four_bits_take_half_the_flash(tmp_path: Path, target: str) -> None:
    narrow = build(tmp_path / "narrow", target, network("int4"))
    wide = build(tmp_path / "wide", target, network("int8"))
    assert count(narrow, 4) == count(wide, 8) == FAMILIES
    assert sum(count(narrow, 8).values()) == sum(count(wide, 4).values()) == 0
    # Biases and multipliers, 8 bytes for each of 122 channels, and alignment stay.
    weights = 32 * 27 + 32 * 9 + 48 * 32 + 48 * 10
    assert 0.45 * weights <= wide.memory.weights - narrow.memory.weights <= 0.52 * weights
    sources = {path.name for path in (tmp_path / "narrow" / target).rglob("mlopsc_*_s8_*")}
    assert not any("conv" in name or "dense" in name or "depthwise" in name for name in sources)


def test_values_decide_layer_by_layer(tmp_path: Path) -> None:
    """Weights of type int8 that fit 4 bits; one of the stem does not."""
    model = network("int8")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int8 and array.ndim > 1:
            array = np.clip(array, -8, 7)
            if array.shape[1] == 3:
                array[5, 1, 2, 0] = 8
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    package = build(tmp_path, "cortex-m4f", model)
    assert count(package, 8) == {"conv": 1, "depthwise": 0, "dense": 0}
    assert count(package, 4) == {"conv": 1, "depthwise": 1, "dense": 1}
