"""Less RAM: inputs and outputs in the arena, patch by patch; with the same bits as without."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from models import node, value
from quantised_cases import QuantisedGraph
from support import SHARED_MODELS, check_refused, run_cli

import mlopsc
from mlopsc.errors import InputError, LimitError
from mlopsc.package_reader import read_package
from mlopsc.runners import run_package

TARGETS = [
    "cortex-m7",
    pytest.param("host", marks=pytest.mark.slow),
    pytest.param("wasm32-simd", marks=pytest.mark.slow),
]
Array = np.ndarray[Any, Any]


def residual() -> onnx.ModelProto:
    """Return a network with a sum that can be written over one of its operands."""
    return models.model(
        [
            node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
            node("Add", ["c2", "r1"], ["sum"]),
            node("Relu", ["sum"], ["r2"]),
            node("GlobalAveragePool", ["r2"], ["p"]),
            node("Flatten", ["p"], ["scores"]),
            node("Flatten", ["r2"], ["features"]),
        ],
        [value("image", [1, 2, 8, 8])],
        [value("scores", [1, 4]), value("features", [1, 256])],
        {"w1": models.random(4, 2, 3, 3), "w2": models.random(4, 4, 3, 3)},
    )


def narrowing(*, channels_last: bool = False) -> onnx.ModelProto:
    """Return a network of early layers that are large: windows of many kinds, one after another."""
    shape = [1, 32, 32, 3] if channels_last else [1, 3, 32, 32]
    first = [node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if channels_last else []
    return models.model(
        [
            *first,
            node("Conv", ["x" if channels_last else "image", "w1", "b1"], ["c1"],
                 pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8, strides=[2, 2]),
            node("Mul", ["c2", "factor"], ["m2"]),
            node("Conv", ["m2", "w3", "b3"], ["c3"]),
            node("MaxPool", ["c3"], ["p3"], kernel_shape=[3, 3], strides=[2, 2],
                 pads=[1, 1, 0, 0]),
            node("Conv", ["p3", "w4"], ["c4"], pads=[0, 1, 2, 1], dilations=[1, 1]),
            node("Clip", ["c4", "low", "high"], ["scores"]),
        ],
        [value("image", shape)],
        [value("scores", [1, 4, 8, 8])],
        {
            "w1": models.random(8, 3, 3, 3), "b1": models.random(8),
            "w2": models.random(8, 1, 3, 3), "factor": models.random(8, 1, 1),
            "w3": models.random(12, 8, 1, 1), "b3": models.random(12),
            "w4": models.random(4, 12, 3, 3),
            "low": np.array(-10.0, np.float32), "high": np.array(1000.0, np.float32),
        },
    )  # fmt: skip


def integers(dtype: str) -> onnx.ModelProto:
    """Return a quantised network with large early layers."""
    g = QuantisedGraph(dtype=dtype, seed=5)

    def layer(x: str, shape: tuple[int, ...], **attributes: Any) -> str:
        weight, scales = g.weight(shape, 0)
        y = g.op("Conv", [x, weight, g.bias(shape[0], scales)], **attributes)
        parameters = [g.constant(np.array(g.scale() * 4)), g.constant(g.zero())]
        return g.op("DequantizeLinear", [g.op("QuantizeLinear", [y, *parameters]), *parameters])

    x = layer(g.read((1, 3, 24, 24)), (8, 3, 3, 3), pads=[1, 1, 1, 1])
    x = layer(x, (8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    x = layer(x, (16, 8, 1, 1))
    x = layer(x, (16, 1, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2], group=16)
    x = layer(x, (8, 16, 3, 3), pads=[1, 1, 1, 1])
    g.write(g.op("ReduceMean", [x, g.constant(np.array([2, 3], np.int64))], keepdims=1))
    return g.model()


def build(model: onnx.ModelProto, target: str, folder: Path, **how: Any) -> Path:
    """Build a model, check that it conforms and return the package."""
    path = models.save(model, folder / "net.onnx")
    name = "-".join(f"{k}-{v}" for k, v in how.items()) or "plain"
    mlopsc.build(path, target, folder / name, **how)
    report = mlopsc.conform(folder / name / target)
    assert report.verdict == "pass", report.outputs
    return folder / name / target


def memory(package: Path) -> Any:
    return read_package(package).info.memory


def outputs(package: Path, seed: int = 3) -> list[bytes]:
    """Return the outputs of random inputs."""
    loaded = read_package(package)
    rng = np.random.default_rng(seed)
    sets = []
    for _ in range(2):
        arrays: dict[str, Array] = {}
        for spec in loaded.info.inputs:
            dtype = np.dtype(spec.dtype)
            drawn = rng.standard_normal(spec.shape) * (40 if dtype.kind in "iu" else 1)
            arrays[spec.name] = (np.abs(drawn) if dtype.kind == "u" else drawn).astype(dtype)
        sets.append(arrays)
    done = run_package(loaded, sets)
    return [found[name].tobytes() for found in done.outputs for name in sorted(found)]


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_and_outputs_in_the_arena_take_part_in_its_plan(target: str, tmp_path: Path) -> None:
    plain = build(residual(), target, tmp_path)
    inside = build(residual(), target, tmp_path, io_in_arena=True)
    before, after = memory(plain), memory(inside)
    assert (before.io, after.io) == (2 * 64 * 4 + 4 * 4 + 256 * 4, 0)
    assert after.arena < before.arena + before.io
    info = read_package(inside).info
    assert info.arena_io is not None and read_package(plain).info.arena_io is None
    header = (inside / "include" / "net.h").read_text(encoding="utf-8")
    places = dict(re.findall(r"#define NET_(\w+)_OFFSET (\d+)", header))
    assert [int(places["INPUT_IMAGE"])] == list(info.arena_io.inputs)
    assert [int(places[n]) for n in ("OUTPUT_SCORES", "OUTPUT_FEATURES")] == list(
        info.arena_io.outputs
    )
    assert outputs(inside) == outputs(plain)


def test_other_pointers_than_into_the_arena_are_refused(tmp_path: Path) -> None:
    model = mlopsc.load(build(residual(), "host", tmp_path, io_in_arena=True))
    places = model.descriptor.arena_io
    assert places is not None
    arena = model.new_arena()
    start = arena.ctypes.data

    def call(**moved: int) -> int:
        ins = [start + places.inputs[0] + moved.get("image", 0)]
        outs = [start + places.outputs[0], start + places.outputs[1] + moved.get("features", 0)]
        tables = (ctypes.c_void_p * 1)(*ins), (ctypes.c_void_p * 2)(*outs)
        return int(model._run(*map(ctypes.addressof, tables), start))

    assert call() == 0
    assert call(image=64) == 3
    assert call(features=-4) == 3
    image = models.random(1, 2, 8, 8)
    once, again = model(image=image), model(image=image)  # the arena of a call is used again
    assert all(np.array_equal(once[name], again[name]) for name in once)


@pytest.mark.slow
def test_example_in_the_arena_agrees(tmp_path: Path) -> None:
    package = build(residual(), "host", tmp_path, io_in_arena=True)
    subprocess.run(["make", "-C", package / "examples"], check=True, capture_output=True)
    found = subprocess.run([package / "examples" / "main"], check=False, capture_output=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@pytest.mark.tool("qemu-system-arm")
def test_programs_on_boards_put_inputs_into_the_arena(tmp_path: Path) -> None:
    package = build(residual(), "cortex-m7", tmp_path, io_in_arena=True)
    assert mlopsc.conform(package, runner="qemu").verdict == "pass"


@pytest.mark.parametrize(
    ("count", "channels_last"),
    [
        (8, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((2, False), (4, True), (16, False))
        ),
    ],
)
def test_patches_compute_what_whole_layers_do(
    count: int, channels_last: bool, tmp_path: Path
) -> None:
    model = narrowing(channels_last=channels_last)
    plain = build(model, "cortex-m7", tmp_path)
    patched = build(model, "cortex-m7", tmp_path, patches=count)
    assert memory(patched).arena < memory(plain).arena
    steps = json.loads((patched / "model.json").read_text(encoding="utf-8"))["timeline"]["layers"]
    assert count in {layer["calls"] for layer in steps}
    assert outputs(patched) == outputs(plain)


@pytest.mark.slow
def test_patches_conform_where_there_are_vectors(tmp_path: Path) -> None:
    for count in (4, 8):
        build(narrowing(), "host", tmp_path, patches=count)


@pytest.mark.parametrize(
    ("target", "dtype"),
    [
        ("cortex-m4f", "int8"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("cortex-m4f", "uint8"), ("host", "int8"), ("riscv32-imc", "uint8"))
        ),
    ],
)
def test_patches_of_integers_give_the_same_bits(target: str, dtype: str, tmp_path: Path) -> None:
    model = integers(dtype)
    plain = build(model, target, tmp_path)
    expected = outputs(plain)
    for count in (12,) if dtype == "int8" else (3, 12):
        assert outputs(build(model, target, tmp_path, patches=count)) == expected
    limit = memory(plain).arena * (3 if target == "host" else 2) // (4 if target == "host" else 3)
    small = build(model, target, tmp_path, arena_limit=limit)
    assert memory(small).arena <= limit
    assert outputs(small) == expected


def test_the_ram_of_a_board_asks_for_patches(tmp_path: Path) -> None:
    package = memory(build(narrowing(), "cortex-m7", tmp_path))
    limit = package.io + package.arena * 2 // 3
    board = tmp_path / "board.toml"
    board.write_text(
        f'name = "board"\nextends = "cortex-m7"\n[limits]\nram_bytes = {limit}\n',
        encoding="utf-8",
    )
    mlopsc.build(tmp_path / "net.onnx", str(board), tmp_path)
    found = memory(tmp_path / "board")
    assert found.arena + found.io <= limit
    assert mlopsc.conform(tmp_path / "board").verdict == "pass"


def test_patches_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = models.save(narrowing(), tmp_path / "net.onnx")
    arguments = ["build", path, "-t", "cortex-m7", "-o", tmp_path / "out"]
    check_refused(run_cli(*arguments, "--patches", "7"), InputError, "7 patches")
    flat = models.save(models.several(), tmp_path / "flat.onnx")
    with pytest.raises(InputError, match="4 patches"):
        mlopsc.build(flat, "cortex-m7", tmp_path / "out", patches=4)
    with pytest.raises(LimitError, match="at most 16"):
        mlopsc.build(flat, "cortex-m7", tmp_path / "out", arena_limit=16, io_in_arena=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.shared_models
@pytest.mark.parametrize(
    ("name", "limit", "how"),
    [
        ("ad01_int8", 1_200, {}),
        ("kws_int8", 12_000, {}),
        ("resnet8_int8", 50_000, {}),
        ("vww_int8", 56_000, {}),
        ("vww_int8", 40_000, {"arena_limit": 40_000}),
    ],
)
def test_arena_with_inputs_and_outputs_is_small(
    name: str, limit: int, how: dict[str, int], tmp_path: Path
) -> None:
    path = SHARED_MODELS / "mlperf-tiny" / f"{name}.onnx"
    mlopsc.build(path, "cortex-m4f", tmp_path, io_in_arena=True, **how)
    found = memory(tmp_path / "cortex-m4f")
    assert found.io == 0
    assert found.arena_lower_bound <= found.arena <= limit
    assert mlopsc.conform(tmp_path / "cortex-m4f").verdict == "pass"
