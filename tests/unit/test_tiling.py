"""Register tiles: they fit the registers, divide the loops and reuse what they load."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlopsc.lower.accesses import Axis
from mlopsc.lower.tiling import MAX_STATEMENTS, Tile, choose_tile, unrolled_axes

# A 3x3 convolution, data in NCHW: axes are image, channel, row, column; operands data and weights.
CONV = (
    Axis(1, (8 * 16 * 16, 0), 16 * 14 * 14),
    Axis(16, (0, 72), 14 * 14),
    Axis(14, (16, 0), 14),
    Axis(14, (1, 0), 1),
)
# A matrix times a vector, weights stored so that neighbouring results lie together.
MATVEC = (Axis(1, (64, 0), 128), Axis(128, (0, 1), 1))
# A depthwise convolution: every operand moves along the channels.
DEPTHWISE = (Axis(1, (0, 0), 0), Axis(8, (100, 9), 64), Axis(8, (10, 0), 8), Axis(8, (1, 0), 1))


def groups(tile: Tile) -> list[int]:
    """Return how many registers the tile takes along each axis."""
    return [
        factor // tile.lanes if index == tile.vector_axis else factor
        for index, factor in enumerate(tile.factors)
    ]


def accumulators(tile: Tile) -> int:
    return math.prod(groups(tile))


def loads(axes: Sequence[Axis], tile: Tile) -> int:
    """Return how many registers are loaded per step of the reduction, all operands together."""
    return sum(
        math.prod(g for g, a in zip(groups(tile), axes, strict=True) if a.strides[operand] != 0)
        for operand in range(len(axes[0].strides))
    )


def reuse(axes: Sequence[Axis], tile: Tile) -> float:
    """Return multiplications per load; 0.5 where nothing is used twice."""
    return accumulators(tile) / loads(axes, tile)


@st.composite
def axis_lists(draw: st.DrawFn) -> list[Axis]:
    operands = draw(st.integers(1, 3))
    stride = st.sampled_from([0, 1, 2, 9, 64, None])
    return [
        Axis(
            draw(st.integers(1, 64)),
            tuple(draw(stride) for _ in range(operands)),
            draw(st.sampled_from([0, 1, 7, 64, None])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


@settings(max_examples=200, deadline=None)
@given(axis_lists(), st.sampled_from([8, 16, 32]), st.sampled_from([1, 4, 8, 16]))
def test_tile_fits_registers_and_divides_the_loops(
    axes: list[Axis], registers: int, lanes: int
) -> None:
    tile = choose_tile(axes, registers=registers, lanes=lanes)
    assert len(tile.factors) == len(axes)
    assert all(a.extent % f == 0 for a, f in zip(axes, tile.factors, strict=True))
    assert accumulators(tile) <= registers
    if accumulators(tile) > 1:
        assert accumulators(tile) + 1 < registers, "no register is left for an operand"


@settings(max_examples=200, deadline=None)
@given(axis_lists(), st.sampled_from([4, 8, 16]))
def test_vectors_lie_along_contiguous_axes_only(axes: list[Axis], lanes: int) -> None:
    tile = choose_tile(axes, registers=16, lanes=lanes)
    if tile.vector_axis is None:
        assert tile.lanes == 1
        return
    axis = axes[tile.vector_axis]
    assert axis.store_stride == 1
    assert set(axis.strides) <= {0, 1}
    assert 4 <= tile.lanes <= lanes
    assert tile.factors[tile.vector_axis] % tile.lanes == 0


@settings(max_examples=100, deadline=None)
@given(axis_lists(), st.sampled_from([8, 16, 32]), st.sampled_from([1, 8]))
def test_tile_is_never_worse_than_none(axes: list[Axis], registers: int, lanes: int) -> None:
    tile = choose_tile(axes, registers=registers, lanes=lanes)
    alone = Tile((1,) * len(axes))
    assert loads(axes, tile) / accumulators(tile) <= loads(axes, alone)


@pytest.mark.parametrize("registers", [8, 16, 32])
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("axes", [CONV, MATVEC], ids=["convolution", "matrix times vector"])
def test_operands_are_reused(axes: tuple[Axis, ...], lanes: int, registers: int) -> None:
    tile = choose_tile(axes, registers=registers, lanes=lanes)
    # A single accumulator loads both operands for one multiplication.
    assert reuse(axes, tile) > reuse(axes, Tile((1,) * len(axes)))


@pytest.mark.parametrize("registers", [16, 32])
def test_convolution_uses_each_load_more_than_once(registers: int) -> None:
    tile = choose_tile(CONV, registers=registers, lanes=1)
    assert reuse(CONV, tile) > 1
    assert tile.factors[1] > 1, "data is not shared by channels"
    assert tile.factors[2] * tile.factors[3] > 1, "weights are not shared by pixels"


def test_more_registers_give_more_reuse() -> None:
    small, large = (choose_tile(CONV, registers=r, lanes=1) for r in (8, 32))
    assert reuse(CONV, large) > reuse(CONV, small)


def test_matrix_times_vector_is_vectorised_over_the_results() -> None:
    tile = choose_tile(MATVEC, registers=16, lanes=8)
    assert (tile.vector_axis, tile.lanes) == (1, 8)


def test_narrower_vectors_are_tried_where_the_widest_does_not_divide() -> None:
    axes = (Axis(12, (0, 1), 1),)
    assert choose_tile(axes, registers=16, lanes=16).lanes == 4


@pytest.mark.parametrize(
    "axis",
    [
        Axis(64, (None, 0), 1),
        Axis(64, (1, None), 1),
        Axis(64, (1, 0), None),
        Axis(64, (2, 0), 1),
        Axis(64, (1, 0), 64),
        Axis(63, (1, 0), 1),
    ],
    ids=["operand", "other operand", "result", "stride 2", "result apart", "extent"],
)
def test_axis_that_is_unknown_or_not_contiguous_is_never_vectorised(axis: Axis) -> None:
    tile = choose_tile([axis], registers=16, lanes=8)
    assert tile.vector_axis is None
    assert tile.lanes == 1


def test_one_lane_forbids_vectors() -> None:
    assert choose_tile(MATVEC, registers=32, lanes=1).vector_axis is None


@pytest.mark.parametrize(("rows", "expected"), [(128, (13, 1, 32)), (197, (11, 1, 32))])
def test_products_load_few_vectors_of_weights(rows: int, expected: tuple[int, ...]) -> None:
    axes = (Axis(rows, (768, 0), 768), Axis(24, (0, 768 * 32), 32), Axis(32, (0, 1), 1))
    tile = choose_tile(axes, registers=32, lanes=16, ragged=True)
    assert tile == Tile(expected, vector_axis=2, lanes=16)


def test_depthwise_convolution_shares_weights_over_pixels_only() -> None:
    tile = choose_tile(DEPTHWISE, registers=16, lanes=1)
    assert tile.factors[1] == 1
    assert tile.factors[2] * tile.factors[3] > 1


def test_too_few_registers_give_no_tile() -> None:
    assert choose_tile(CONV, registers=2, lanes=8) == Tile((1, 1, 1, 1))


def test_no_axes_give_no_tile() -> None:
    assert choose_tile([], registers=16, lanes=8) == Tile(())


def test_tile_reads_well() -> None:
    assert str(Tile((1, 4, 2))) == "tile 1x4x2"
    assert str(Tile((1, 4, 16), 2, 8)) == "tile 1x4x16, 8 lanes on axis 2"


@given(st.lists(st.integers(1, 40), max_size=5), st.integers(1, 64))
def test_innermost_loops_are_unrolled_as_long_as_the_body_stays_small(
    extents: list[int], held: int
) -> None:
    count = unrolled_axes(extents, held)
    assert 0 <= count <= len(extents)
    inside = extents[len(extents) - count :]
    if count:
        assert held * math.prod(inside) <= MAX_STATEMENTS
    if count < len(extents):
        assert held * math.prod(extents[len(extents) - count - 1 :]) > MAX_STATEMENTS


def test_window_of_a_convolution_is_unrolled_and_its_channels_are_not() -> None:
    assert unrolled_axes([64, 3, 3], 8) == 2
