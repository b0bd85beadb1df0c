"""Patches: which part of each layer they need, and the kernels that cut them out."""

from __future__ import annotations

import ctypes
import itertools
import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from models import node, value

from mlopsc.lower.chains import Chain, chains, parts_of
from mlopsc.lower.micro import PatchShape
from mlopsc.lower.patches import possible_patches
from mlopsc.resources import kernels_dir
from mlopsc.tools import run_zig

Array = np.ndarray[Any, Any]


def graph_of(model: onnx.ModelProto) -> ir.Graph:
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(model)).graph


def three_layers(**last: Any) -> onnx.ModelProto:
    return models.model(
        [
            node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
            node("Conv", ["x", "w1"], ["c1"], pads=[0, 0, 1, 1], strides=[2, 2]),
            node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=4, **last),
            node("GlobalAveragePool", ["c2"], ["y"]),
        ],
        [value("image", [1, 16, 16, 3])],
        [value("y", [1, 4, 1, 1])],
        {"w1": models.random(4, 3, 3, 3), "w2": models.random(4, 1, 3, 3)},
    )


def only_chain(model: onnx.ModelProto) -> Chain:
    (chain,) = chains(graph_of(model))
    return chain


def test_chain_ends_where_an_element_needs_everything() -> None:
    chain = only_chain(three_layers())
    assert [link.node.op_type for link in chain.links] == ["Conv", "Relu", "Conv"]
    assert chain.transposition is not None and chain.source.name == "image"
    windows = [link.window for link in chain.links]
    assert windows[1] is None
    assert windows[0] is not None and windows[0].strides == (2, 2)


def test_parts_are_what_windows_reach() -> None:
    source, first, relu, last = parts_of(only_chain(three_layers()), (2, 8))
    assert (last.size, last.step, last.origin, last.whole) == ((2, 8), (2, 8), (0, 0), (8, 8))
    # One patch along the columns: the whole of them, and the windows keep their border.
    assert relu == first
    assert (first.size, first.step, first.origin) == ((4, 8), (2, 8), (-1, 0))
    assert (source.size, source.step, source.origin) == ((9, 16), (4, 16), (-2, 0))
    assert first.leaves((4, 1)) and not last.leaves((4, 1))


@pytest.mark.parametrize("stop", ["two users", "an output", "same padding"])
def test_chain_stops_at_what_it_cannot_cut(stop: str) -> None:
    if stop == "same padding":
        model = models.model(
            [
                node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER"),
                node("Relu", ["c"], ["y"]),
            ],
            [value("x", [1, 3, 8, 8])],
            [value("y", [1, 3, 8, 8])],
            {"w": models.random(3, 3, 3, 3)},
        )
        assert list(chains(graph_of(model))) == []
        return
    model = three_layers()
    if stop == "two users":
        model.graph.node.append(node("GlobalMaxPool", ["r1"], ["z"]))
        model.graph.output.append(value("z", [1, 4, 1, 1]))
    else:
        model.graph.output.append(value("r1", [1, 4, 8, 8]))
    found = list(chains(graph_of(model)))
    assert [[link.node.op_type for link in chain.links] for chain in found] == [["Conv", "Relu"]]


def test_possible_patches_begin_with_the_least_work() -> None:
    found = possible_patches(graph_of(three_layers()), 16, io_in_arena=True)
    assert found
    extra = [way.work - way.whole for way in found]
    assert extra == sorted(extra)
    assert all(8 % n == 0 for way in found for n in way.grid)
    assert all(way.count > 1 for way in found)
    image = 16 * 16 * 3 * 4
    assert min(way.arena for way in found) > image
    outside = possible_patches(graph_of(three_layers()), 16, io_in_arena=False)
    assert min(way.arena for way in outside) < image


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("patch")
    for name in ("mlopsc_micro.h", "mlopsc_patch_s8_portable.c"):
        shutil.copyfile(kernels_dir() / "micro" / name, folder / name)
    flags = ["-shared", "-fPIC", "-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined"]
    run_zig(["cc", *flags, "mlopsc_patch_s8_portable.c", "-o", "patch.so"], cwd=folder)
    return ctypes.CDLL(str(Path(folder) / "patch.so"))


def shapes() -> list[PatchShape]:
    """Return grids whose patches reach into borders on all sides, or on none."""
    made = []
    for first, step, last in itertools.product(
        [(-2, -1), (0, 0), (1, 2)], [(3, 4), (5, 2)], (0, 1)
    ):
        made.append(PatchShape(3, 5, 6, 2, *step, *first, 9, 8, -7, last))
    made.append(PatchShape(1, 20, 20, 1, 1, 1, -30, -30, 4, 4, 5, 0))  # all of it outside
    made.append(PatchShape(2, 20, 20, 1, 1, 1, -3, -5, 4, 4, 5, 0))  # larger than the tensor
    return made


def place_of(s: PatchShape, number: int) -> tuple[Array, Array]:
    rows = s.first_row + number // s.grid_columns * s.step_rows + np.arange(s.rows)
    columns = s.first_column + number % s.grid_columns * s.step_columns + np.arange(s.columns)
    return rows[:, None], columns[None, :]


@pytest.mark.parametrize("shape", shapes(), ids=str)
def test_patches_are_cut_out_with_their_border(library: ctypes.CDLL, shape: PatchShape) -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(-128, 128, (shape.channels, shape.height, shape.width), np.int8)
    given = np.ascontiguousarray(whole.transpose(1, 2, 0) if shape.channels_last else whole)
    words = np.array(astuple(shape), np.int32)
    for number in range(4):
        rows, columns = place_of(shape, number)
        inside = (rows >= 0) & (rows < shape.height) & (columns >= 0) & (columns < shape.width)
        near = whole[:, rows.clip(0, shape.height - 1), columns.clip(0, shape.width - 1)]
        expected = np.where(inside, near, np.int8(shape.fill))
        which = np.array([number], np.int64)
        found = np.empty((shape.channels, shape.rows, shape.columns), np.int8)
        addresses = [ctypes.c_void_p(a.ctypes.data) for a in (given, which, found, words)]
        library.mlopsc_extract_s8(*addresses)
        assert np.array_equal(found, expected)
        filled = rng.integers(-128, 128, found.shape, np.int8)
        wanted = np.where(inside, filled, np.int8(shape.fill))
        other = np.empty_like(filled)
        for target in (other, filled):  # elsewhere, then in place
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (filled, which, target, words)]
            library.mlopsc_border_s8(*pointers)
            assert np.array_equal(target, wanted)
