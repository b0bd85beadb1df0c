"""Convolutions that are computed otherwise than as their definition says, on every kind of vector.

Winograd's minimal filtering, groups as convolutions of their own, transposed convolutions as
interleaved ones: all against float64, by running what ships.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnxruntime
import pytest
from support import VECTOR_TARGETS, build_conforming, quick_or_slow

import mlopsc
from mlopsc.pipeline import run
from mlopsc.schema.target import Accuracy

LIMIT = 1e-5  # of the largest value of a layer


def convolution(
    channels: int, features: int, size: tuple[int, int], taps: int, *, batch: int = 1
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return a model of one convolution with bias and Relu, and its weights."""
    weights = models.random(features, channels, taps, taps, seed=1)
    weights *= np.float32((2 / (taps * taps * channels)) ** 0.5)
    nodes = [
        models.node("Conv", ["x", "w", "b"], ["c"], pads=[taps // 2] * 4),
        models.node("Relu", ["c"], ["y"]),
    ]
    shape = [batch, channels, *size]
    made = models.model(
        nodes,
        [models.value("x", shape)],
        [models.value("y", [batch, features, *size])],
        {"w": weights, "b": models.random(features, seed=2)},
    )
    return made, weights


def exact(x: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    taps = weights.shape[-1]
    pad, (height, width) = taps // 2, x.shape[2:]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    total = sum(
        np.einsum(
            "nchw,fc->nfhw",
            padded[:, :, i : i + height, j : j + width],
            weights[:, :, i, j].astype(np.float64),
        )
        for i in range(taps)
        for j in range(taps)
    )
    bias = models.random(weights.shape[0], seed=2).astype(np.float64)
    return np.maximum(total + bias[:, None, None], 0)


CASES = {
    "fewer features than a vector": (256, 6, (33, 32), 3, 1),
    "fewer channels than a vector": (13, 32, (33, 32), 3, 1),
    "many channels": (256, 64, (14, 14), 3, 1),
    "whole tiles": (32, 32, (16, 16), 3, 1),
    "tails": (32, 48, (19, 26), 3, 1),
    "channels without a whole block": (40, 36, (17, 17), 3, 1),
    "five taps": (32, 32, (15, 14), 5, 1),
    "batch": (32, 32, (12, 13), 3, 2),
}


QUICK = ("fewer features than a vector", "tails", "batch")


@pytest.mark.parametrize("case", quick_or_slow(CASES, QUICK))
def test_winograd_is_accurate(case: str, tmp_path: Path) -> None:
    channels, features, size, taps, batch = CASES[case]
    model, weights = convolution(channels, features, size, taps, batch=batch)
    models.save(model, tmp_path / "m.onnx")
    x = models.random(batch, channels, *size, seed=3)
    expected = exact(x, weights)
    errors: dict[Accuracy, float] = {}
    for accuracy in ("fast", "strict"):
        built = mlopsc.build(
            tmp_path / "m.onnx", "x86-64-v3", tmp_path / accuracy, accuracy=accuracy
        )
        notes = [kernel.schedule for kernel in built["x86-64-v3"].kernels]
        assert any("Winograd" in note for note in notes) == (accuracy == "fast")
        assert built["x86-64-v3"].accuracy == accuracy
        got = run(tmp_path / accuracy / "x86-64-v3", {"x": x}).outputs[0]["y"]
        errors[accuracy] = float(np.abs(got - expected).max() / np.abs(expected).max())
    assert errors["fast"] < LIMIT
    session = onnxruntime.InferenceSession(
        (tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    reference = session.run(None, {"x": x})[0]
    error = float(np.abs(reference - expected).max() / np.abs(expected).max())
    assert errors["strict"] <= 2 * error


def network() -> Any:
    """Winograd with a residual, groups of whole blocks, and transposed convolutions."""
    weights: dict[str, np.ndarray[Any, Any]] = {}

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = models.random(*shape, seed=len(weights)) * np.float32(0.1)
        return name

    nodes = [
        models.node("Conv", ["x", weight(32, 3, 3, 3)], ["stem"], pads=[1] * 4),
        models.node("Conv", ["stem", weight(32, 32, 3, 3), weight(32)], ["w"], pads=[1] * 4),
        models.node("Add", ["w", "stem"], ["sum"]),
        models.node("Relu", ["sum"], ["relu"]),
        models.node(
            "Conv", ["relu", weight(64, 16, 3, 3), weight(64)], ["g"], group=2, pads=[1] * 4
        ),
        models.node(
            "ConvTranspose", ["g", weight(64, 32, 2, 2), weight(32)], ["up"], strides=[2, 2]
        ),
        models.node("LeakyRelu", ["up"], ["leaky"]),
        models.node(
            "ConvTranspose", ["leaky", weight(32, 5, 3, 3)], ["y"],
            strides=[2, 2], pads=[1, 1, 0, 0],
        ),
        models.node("ConvTranspose", ["relu", weight(32, 16, 3, 3)], ["z"], pads=[1] * 4),
    ]  # fmt: skip
    outputs = [models.value("y", [1, 5, 72, 64]), models.value("z", [1, 16, 18, 16])]
    return models.model(nodes, [models.value("x", [1, 3, 18, 16])], outputs, weights)


def shuffled() -> Any:
    """Two units of grouped products, a shuffle of channels and a residual."""
    weights: dict[str, np.ndarray[Any, Any]] = {
        "split": np.array([1, 4, 10, 9, 11]), "whole": np.array([1, 40, 9, 11]),
        "low": np.array(0, np.float32), "high": np.array(6, np.float32),
    }  # fmt: skip

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = models.random(*shape, seed=len(weights)) * np.float32(0.3)
        return name

    nodes, x = [], "x"
    for unit in ("a", "b"):
        nodes += [
            models.node("Conv", [x, weight(40, 10, 1, 1), weight(40)], [f"{unit}1"], group=4),
            models.node("Clip", [f"{unit}1", "low", "high"], [f"{unit}2"]),
            models.node("Reshape", [f"{unit}2", "split"], [f"{unit}3"]),
            models.node("Transpose", [f"{unit}3"], [f"{unit}4"], perm=[0, 2, 1, 3, 4]),
            models.node("Reshape", [f"{unit}4", "whole"], [f"{unit}5"]),
            models.node("Conv", [f"{unit}5", weight(40, 1, 3, 3)], [f"{unit}6"], group=40,
                        pads=[1] * 4),
            models.node("Conv", [f"{unit}6", weight(40, 10, 1, 1)], [f"{unit}7"], group=4),
            models.node("Add", [x, f"{unit}7"], [f"{unit}8"]),
            models.node("Relu", [f"{unit}8"], [f"{unit}9"]),
        ]  # fmt: skip
        x = f"{unit}9"
    shape = [1, 40, 9, 11]
    outputs = [models.value("b9", shape), models.value("a8", shape)]
    return models.model(nodes, [models.value("x", shape)], outputs, weights)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_shuffled_groups_conform(tmp_path: Path, target: str) -> None:
    package = build_conforming(shuffled(), target, tmp_path)
    names = [kernel.symbol for kernel in package.kernels]
    assert not any("transpose" in name for name in names)
    assert any(name.endswith("matmul_add_clip") for name in names), names


def test_channels_of_a_convolution_are_reversed(tmp_path: Path) -> None:
    weights = {
        "w": models.random(32, 32, 1, 1), "start": np.array([-1]), "end": np.array([-1000]),
        "axis": np.array([1]), "step": np.array([-1]),
    }  # fmt: skip
    nodes = [
        models.node("Conv", ["x", "w"], ["c"]),
        models.node("Sigmoid", ["c"], ["s"]),
        models.node("Slice", ["s", "start", "end", "axis", "step"], ["y"]),
    ]
    shape = [1, 32, 9, 9]
    made = models.model(nodes, [models.value("x", shape)], [models.value("y", shape)], weights)
    build_conforming(made, "host", tmp_path)


def windows() -> Any:
    """Windows over each channel alone: their borders are tested per tile, not copied."""
    weights = {"w": models.random(16, 1, 3, 3), "v": models.random(16, 1, 5, 3)}
    nodes = [
        models.node("Relu", ["x"], ["r"]),
        models.node("Conv", ["r", "w"], ["a"], group=16, pads=[1] * 4),
        models.node("Conv", ["a", "v"], ["b"], group=16, pads=[0, 2, 3, 0], strides=[2, 1]),
        models.node("Conv", ["b", "w"], ["c"], group=16, pads=[2] * 4, dilations=[2, 2]),
        models.node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], pads=[1, 0, 1, 2]),
        models.node("AveragePool", ["d"], ["y"], kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
    ]
    outputs = [models.value("y", [1, 16, 20, 37])]
    return models.model(nodes, [models.value("x", [1, 16, 40, 37])], outputs, weights)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_windows_at_borders_conform(tmp_path: Path, target: str) -> None:
    package = build_conforming(windows(), target, tmp_path)
    largest = 16 * 40 * 37 * 4
    assert package.memory.arena <= 2 * largest + 1024  # no padded copies


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_a_network_conforms(tmp_path: Path, target: str) -> None:
    package = build_conforming(network(), target, tmp_path)
    assert any("Winograd" in k.schedule for k in package.kernels)
