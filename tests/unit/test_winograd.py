"""Winograd's minimal filtering: its matrices, and when it is chosen."""

from __future__ import annotations

import models
import numpy as np
import onnx_ir as ir
import pytest

from mlopsc.lower.layout import use_blocked_layout
from mlopsc.lower.transposed import use_interleaved_convolutions
from mlopsc.lower.winograd import choose_results, transform_weights, transforms

TILES = [(2, 3), (4, 3), (2, 5)]


def as_array(matrix: object) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(matrix, dtype=np.float64)


@pytest.mark.parametrize(("results", "taps"), TILES)
def test_a_filter_is_computed_with_fewer_multiplications(results: int, taps: int) -> None:
    found = transforms(results, taps)
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(results + taps - 1), rng.standard_normal(taps)
    points = (as_array(found.weights) @ g) * (as_array(found.inputs) @ x)
    assert len(points) == results + taps - 1 < results * taps
    np.testing.assert_allclose(
        as_array(found.outputs) @ points, np.convolve(x, g[::-1], "valid"), rtol=1e-12
    )


def test_weights_are_transformed_exactly_and_rounded_once() -> None:
    weights = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    matrix = as_array(transforms(4, 3).weights)
    expected = matrix @ weights[2, 1].astype(np.float64) @ matrix.T
    made = transform_weights(weights, 4)
    assert made.shape == (6, 6, 3, 2)
    np.testing.assert_array_equal(made[:, :, 2, 1], expected.astype(np.float32))


def test_large_images_take_large_tiles_and_weights_that_are_streamed_small_ones() -> None:
    assert choose_results(3, 64, 64, (56, 56), 16) == 4
    assert choose_results(3, 256, 256, (14, 14), 16) == 2
    assert choose_results(5, 32, 96, (14, 14), 16) == 2


@pytest.mark.parametrize(
    ("taps", "channels", "features", "sizes"),
    [(3, 512, 512, (7, 7)), (3, 512, 512, (1, 1)), (7, 64, 64, (56, 56)), (1, 64, 64, (56, 56))],
)
def test_what_gains_nothing_stays_a_sum(
    taps: int, channels: int, features: int, sizes: tuple[int, int]
) -> None:
    assert choose_results(taps, channels, features, sizes, 16) == 0


def graph_of(op: str, output: list[int], special: float, **attributes: object) -> ir.Model:
    weights = models.random(32, 32, 3, 3)
    weights[3, 5, 1, 2] = special
    made = models.model(
        [models.node(op, ["x", "w"], ["y"], **attributes)],
        [models.value("x", [1, 32, 16, 16])],
        [models.value("y", output)],
        {"w": weights},
    )
    return ir.serde.deserialize_model(made)


@pytest.mark.parametrize(("special", "expected"), [(0.5, True), (np.inf, False), (np.nan, False)])
def test_weights_that_would_spread_over_their_tile_stay_a_sum(
    special: float, expected: bool
) -> None:
    graph = use_blocked_layout(
        graph_of("Conv", [1, 32, 16, 16], special, pads=[1] * 4), 16, accuracy="fast"
    ).graph
    assert any(node.op_type == "WinogradConv" for node in graph) == expected


def test_taps_of_zeros_meet_no_infinities() -> None:
    for special, accuracy, expected in (
        (0.5, "fast", True), (0.5, "strict", False), (np.inf, "fast", False),
    ):  # fmt: skip
        graph = graph_of("ConvTranspose", [1, 32, 33, 33], special, strides=[2, 2])
        made = use_interleaved_convolutions(graph, accuracy).graph  # type: ignore[arg-type]
        assert any(node.op_type == "DepthToSpace" for node in made) == expected
