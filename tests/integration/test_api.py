"""The Python API and the C packages, used as their users do."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import models
import numpy as np
import pytest
from models import model, node, value
from support import copy_package, run_cli

import mlopsc
from mlopsc.bundle import read_bundle
from mlopsc.errors import BrokenPackageError, InputError, MissingToolError
from mlopsc.loader import Model
from mlopsc.reference import Reference
from mlopsc.schema.target import Accuracy

ZIG = f"{shlex.quote(sys.executable)} -m ziglang cc"


@pytest.fixture(scope="module")
def digits(digits_packages: dict[str, Path]) -> Model:
    return mlopsc.load(digits_packages["host"])


@pytest.fixture(scope="module")
def scans(digits_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and what they show."""
    with np.load(digits_folder / "vectors.npz") as vectors:
        return vectors["image"], vectors["label"]


def build_one(
    proto: object, folder: Path, target: str = "host", *, name: str | None = None
) -> Path:
    """Import and build a model; return the package."""
    models.save(proto, folder / "m.onnx")
    mlopsc.import_model(folder / "m.onnx", folder / "m.mlb", name=name, force=True)
    mlopsc.build(folder / "m.mlb", target, folder / "out", force=True)
    return folder / "out" / target


# Calling a model ---------------------------------------------------------------------------------


def test_all_labels_are_right(digits: Model, scans: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = scans
    assert len(labels) == 10
    for image, label in zip(images, labels, strict=True):
        outputs = digits({"image": image[np.newaxis]})
        assert list(outputs) == ["probabilities"]
        assert outputs["probabilities"].shape == (1, 10)
        assert outputs["probabilities"].dtype == np.float32
        assert int(outputs["probabilities"].argmax()) == int(label)
        assert float(outputs["probabilities"].sum()) == pytest.approx(1, abs=1e-5)


def test_signature_is_that_of_the_bundle(digits: Model, digits_bundle: Path) -> None:
    manifest = read_bundle(digits_bundle).manifest
    assert digits.inputs == manifest.inputs
    assert digits.outputs == manifest.outputs


def test_inputs_may_be_given_by_keyword(digits: Model) -> None:
    image = np.ones((1, 8, 8), np.uint8)
    by_name = digits(image=image)["probabilities"]
    assert np.array_equal(by_name, digits({"image": image})["probabilities"])


def test_results_are_new_arrays_each_time(digits: Model) -> None:
    first = digits(image=np.zeros((1, 8, 8), np.uint8))["probabilities"]
    kept = first.copy()
    second = digits(image=np.full((1, 8, 8), 16, np.uint8))["probabilities"]
    assert not np.array_equal(first, second)
    assert np.array_equal(first, kept)


def test_inputs_are_not_changed(digits: Model) -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    kept = image.copy()
    digits(image=image)
    assert np.array_equal(image, kept)


@pytest.mark.parametrize(
    ("inputs", "mention"),
    [
        ({}, "image"),
        ({"picture": np.zeros((1, 8, 8), np.uint8)}, "picture"),
        ({"image": np.zeros((1, 8, 8), np.uint8), "more": np.zeros(1)}, "more"),
        ({"image": np.zeros((8, 8), np.uint8)}, "uint8[8, 8]"),
        ({"image": np.zeros((2, 8, 8), np.uint8)}, "uint8[2, 8, 8]"),
        ({"image": np.zeros((1, 8, 8), np.int8)}, "int8[1, 8, 8]"),
        ({"image": np.zeros((1, 8, 8), np.float64)}, "float64"),
        ({"image": np.zeros((1, 8, 8), bool)}, "bool"),
        ({"image": [[[0] * 8] * 8]}, "int64"),
        ({"image": None}, "object"),
        ({"image": "text"}, "image"),
    ],
)
def test_wrong_input_is_named(inputs: dict[str, np.ndarray], mention: str, digits: Model) -> None:
    with pytest.raises(InputError) as caught:
        digits(inputs)
    assert mention in caught.value.message
    assert "image" in caught.value.message
    assert caught.value.hint


def test_four_threads_at_once_get_what_one_gets(
    digits: Model, scans: tuple[np.ndarray, np.ndarray]
) -> None:
    images = scans[0][:, np.newaxis]
    expected = [digits(image=image)["probabilities"] for image in images]
    barrier = Barrier(4)

    def work(number: int) -> list[np.ndarray]:
        order = np.roll(np.arange(len(images)), number)
        barrier.wait()
        results = [digits(image=images[i])["probabilities"] for _ in range(50) for i in order]
        return [results[at] for at in np.argsort(np.tile(order, 50), kind="stable")]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            assert len(results) == 50 * len(images)
            for at, result in enumerate(results):
                assert np.array_equal(result, expected[at // 50])


def odd_views(array: np.ndarray) -> dict[str, np.ndarray]:
    """Return arrays that equal ``array`` and lie in memory in other ways."""
    doubled = np.repeat(array, 2, axis=-1)
    memory = np.zeros(array.nbytes + 64, np.uint8)
    offset = next(o for o in range(64) if (memory.ctypes.data + o) % array.itemsize)
    unaligned = memory[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    locked = array.copy()
    locked.flags.writeable = False
    return {
        "strided": doubled[..., ::2],
        "reversed": np.ascontiguousarray(array[..., ::-1])[..., ::-1],
        "Fortran order": np.asfortranarray(array),
        "transposed": np.ascontiguousarray(array.T).T,
        "read-only": locked,
        "unaligned": unaligned,
        "other byte order": array.astype(array.dtype.newbyteorder()),
    }


@pytest.mark.parametrize("kind", list(odd_views(np.zeros((2, 2), np.float32))))
def test_arrays_may_lie_in_memory_in_any_way(kind: str, several: Model) -> None:
    left, right = models.random(2, 3), models.random(2, 4)
    expected = several({"left": left, "right": right})
    found = several({"left": odd_views(left)[kind], "right": odd_views(right)[kind]})
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return mlopsc.load(build_one(models.several(), tmp_path_factory.mktemp("several")))


def test_several_inputs_and_outputs_equal_the_reference(several: Model) -> None:
    left, right = models.random(2, 3), models.random(2, 4)
    bundle = read_bundle(Path(several._package.path).parent.parent / "m.mlb")
    expected = Reference(bundle.stages).run({"left": left, "right": right})
    found = several({"right": right, "left": left})
    assert list(found) == ["total", "positive", "same", "larger"]
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.allclose(found[name], array, rtol=0, atol=1e-5), name
    assert np.array_equal(found["same"], left)


def test_output_that_is_an_input_or_constant_is_a_copy(tmp_path: Path) -> None:
    made = model(
        [node("Identity", ["x"], ["same"]), node("Neg", ["w"], ["fixed"])],
        [value("x", [3])],
        [value("same", [3]), value("fixed", [2])],
        {"w": np.float32([1, 2])},
    )
    called = mlopsc.load(build_one(made, tmp_path))(x=np.float32([1, 2, 3]))
    assert called["same"].tolist() == [1, 2, 3]
    assert called["fixed"].tolist() == [-1, -2]


@pytest.mark.parametrize("name", ["m_weights", "scratch", "copy", "class", "int", "run"])
def test_input_may_have_the_name_of_something_of_ours(name: str, tmp_path: Path) -> None:
    package = build_one(models.two_convs(name), tmp_path, name="m")
    assert mlopsc.conform(package).verdict == "pass"


@pytest.mark.parametrize("name", ["mlopsc", "vector", "stdint", "math", "main", "test"])
def test_model_may_have_the_name_of_something_of_ours(name: str, tmp_path: Path) -> None:
    package = build_one(models.add(), tmp_path, name=name)
    assert mlopsc.conform(package).verdict == "pass"
    make(package, tmp_path)


# Which packages load -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cortex-m7", "wasm32-simd"])
def test_package_for_another_machine_is_not_loaded(
    target: str, digits_packages: dict[str, Path]
) -> None:
    with pytest.raises(MissingToolError) as caught:
        mlopsc.load(digits_packages[target])
    assert f"'{target}'" in caught.value.message
    assert "mlopsc conform" in caught.value.hint


def test_package_that_needs_other_processor_features_is_not_loaded(
    digits_packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models.save(models.add(), tmp_path / "m.onnx")
    (tmp_path / "fast.toml").write_text(
        'name = "fast"\nextends = "host"\n[hardware]\ncpu_flags = ["warp_drive"]\n'
    )
    mlopsc.build(tmp_path / "m.onnx", str(tmp_path / "fast.toml"), tmp_path / "out")
    with pytest.raises(MissingToolError, match="warp_drive"):
        mlopsc.load(tmp_path / "out" / "fast")


def test_damaged_package_is_not_loaded(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    with (package / "lib" / "libdigits.so").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BrokenPackageError, match=r"libdigits\.so"):
        mlopsc.load(package)


def test_place_that_is_no_package_is_not_loaded(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BrokenPackageError, match=path.name):
            mlopsc.load(path)


def test_several_models_live_side_by_side(digits: Model, several: Model) -> None:
    image = np.zeros((1, 8, 8), np.uint8)
    before = digits(image=image)["probabilities"]
    several({"left": models.random(2, 3), "right": models.random(2, 4)})
    assert np.array_equal(digits(image=image)["probabilities"], before)
    assert [s.name for s in several.inputs] == ["left", "right"]


def test_package_that_was_replaced_is_loaded_anew(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    results = []
    for factor in (2, 3):
        made = model(
            [node("Mul", ["x", "w"], ["y"])],
            [value("x", [4])],
            [value("y", [4])],
            {"w": np.full(4, factor, np.float32)},
        )
        loaded = mlopsc.load(build_one(made, tmp_path, name="same"))
        results.append(loaded(x=ones)["y"].tolist())
    assert results == [[2] * 4, [3] * 4]


# The API from end to end -------------------------------------------------------------------------


def test_api_from_end_to_end(digits_folder: Path, tmp_path: Path) -> None:
    bundle = mlopsc.import_model(
        str(digits_folder / "digits.onnx"),
        str(tmp_path / "d.mlb"),
        preprocess=str(digits_folder / "preprocess.onnx"),
        vectors=str(digits_folder / "vectors.npz"),
        name="scans",
        version="2",
    )
    assert (bundle.manifest.name, bundle.manifest.version) == ("scans", "2")
    assert read_bundle(tmp_path / "d.mlb").digest == bundle.digest

    packages = mlopsc.build(str(tmp_path / "d.mlb"), "host", str(tmp_path / "out"))
    assert list(packages) == ["host"]
    assert packages["host"].bundle == bundle.digest
    assert packages["host"].shared_library == "lib/libscans.so" or os.uname().sysname == "Darwin"

    recorded = mlopsc.conform(str(tmp_path / "out" / "host"))
    assert recorded.verdict == "pass"
    assert recorded.reference_source == "recorded"
    assert recorded.labels is not None
    assert (recorded.labels.correct, recorded.labels.vectors) == (10, 10)

    live = mlopsc.conform(tmp_path / "out" / "host", bundle=tmp_path / "d.mlb")
    assert live.verdict == "pass"
    assert live.reference_source == "live"
    assert live.outputs == recorded.outputs

    loaded = mlopsc.load(tmp_path / "out" / "host")
    assert loaded.descriptor.version == "2"


def test_dimensions_are_bound_through_the_api(tmp_path: Path) -> None:
    models.save(models.two_convs(), tmp_path / "m.onnx")
    bundle = mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb", bind={"batch": 3})
    assert bundle.manifest.inputs[0].shape == (3, 2, 8, 8)
    mlopsc.build(tmp_path / "m.mlb", "host", tmp_path)
    assert mlopsc.conform(tmp_path / "host").verdict == "pass"


@pytest.mark.parametrize("accuracy", ["fast", "strict"])
def test_the_accuracy_of_its_kernels_is_recorded_in_the_package(
    accuracy: Accuracy, tmp_path: Path
) -> None:
    shape = [1, 32, 16, 16]
    nodes = [models.node("Conv", ["x", "w"], ["y"], pads=[1] * 4)]
    weights = {"w": models.random(32, 32, 3, 3)}
    made = models.model(nodes, [models.value("x", shape)], [models.value("y", shape)], weights)
    models.save(made, tmp_path / "m.onnx")
    built = mlopsc.build(tmp_path / "m.onnx", "host", tmp_path / "api", accuracy=accuracy)
    assert built["host"].accuracy == accuracy
    options = ("--target", "host", "--accuracy", accuracy, "-o", tmp_path / "cli")
    assert run_cli("build", tmp_path / "m.onnx", *options).returncode == 0
    seen = run_cli("inspect", tmp_path / "cli" / "host", env={"COLUMNS": "200"})
    assert f"accuracy {accuracy}" in seen.stdout


@pytest.mark.parametrize("generator", ["llvm", "c"])
@pytest.mark.parametrize("schedule", ["tiled", "none"])
def test_every_way_of_building_conforms(
    generator: str, schedule: str, digits_bundle: Path, tmp_path: Path
) -> None:
    packages = mlopsc.build(
        digits_bundle, ["host"], tmp_path, generator=generator, schedule=schedule
    )
    assert (packages["host"].generator, packages["host"].schedule) == (generator, schedule)
    assert mlopsc.conform(tmp_path / "host").verdict == "pass"


# The package in C --------------------------------------------------------------------------------


def make(package: Path, folder: Path, *arguments: str, target: str = "run") -> str:
    """Run ``make`` in a copy of the package's example and return what it printed."""
    copy = folder / "used"
    shutil.copytree(package, copy)
    command = ["make", "--no-print-directory", target, *arguments]
    if shutil.which("cc") is None and not any(a.startswith("CC=") for a in arguments):
        command.append(f"CC={ZIG}")
    result = subprocess.run(
        command, cwd=copy / "examples", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr  # emulators print to either


@pytest.mark.tool("make")
def test_example_builds_and_runs_with_make(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    assert "digits: outputs agree with the reference" in make(digits_packages["host"], tmp_path)


@pytest.mark.tool("make")
def test_example_builds_without_warnings(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    flags = "CFLAGS=-std=c99 -Wall -Wextra -Werror -pedantic"
    make(digits_packages["host"], tmp_path, flags)


@pytest.mark.tool("make")
def test_example_builds_for_bare_metal(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    compiler = f"CC={ZIG} -target thumb-freestanding-eabihf -mcpu=cortex_m7+fp_armv8d16"
    make(digits_packages["cortex-m7"], tmp_path, compiler, target="all")
    assert (tmp_path / "used" / "examples" / "main.elf").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.tool("make", "qemu-system-arm")
def test_example_runs_on_an_emulated_board(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    compiler = f"CC={ZIG} -target thumb-freestanding-eabihf -mcpu=cortex_m7+fp_armv8d16"
    printed = make(digits_packages["cortex-m7"], tmp_path, compiler)
    assert "digits: outputs agree with the reference" in printed


@pytest.mark.tool("make", "arm-none-eabi-gcc")
def test_example_builds_with_the_arm_toolchain(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    compiler = "CC=arm-none-eabi-gcc -mcpu=cortex-m7 -mthumb -mfloat-abi=hard"
    make(digits_packages["cortex-m7"], tmp_path, compiler, target="all")


@pytest.mark.tool("make")
def test_example_builds_for_webassembly(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    compiler = f"CC={ZIG} -target wasm32-wasi -mcpu=generic+simd128+bulk_memory"
    make(digits_packages["wasm32-simd"], tmp_path, compiler, target="all")
    import wasmtime

    engine = wasmtime.Engine()
    program = wasmtime.Module.from_file(engine, str(tmp_path / "used" / "examples" / "main.wasm"))
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    linker.define_wasi()
    settings = wasmtime.WasiConfig()
    settings.stdout_file = str(tmp_path / "printed")
    store.set_wasi(settings)
    try:
        linker.instantiate(store, program).exports(store)["_start"](store)
    except wasmtime.ExitTrap as stop:
        assert stop.code == 0
    assert "outputs agree with the reference" in (tmp_path / "printed").read_text()


@pytest.mark.tool("make")
@pytest.mark.parametrize("wrong", ["nan", "number", "infinity"])
def test_example_says_when_outputs_are_wrong(wrong: str, tmp_path: Path) -> None:
    """What the library gets is changed, so that it answers something else than expected."""
    package = build_one(models.add(), tmp_path)
    path = package / "examples" / "vector.h"
    literal = {"nan": "(0.0f / 0.0f)", "number": "99.0f", "infinity": "(1.0f / 0.0f)"}[wrong]
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("= {"))  # the first input
    lines[at + 1] = f"  {literal}, " + lines[at + 1].partition(",")[2]
    path.write_text("\n".join(lines) + "\n")
    command = ["make", "--no-print-directory", "run"]
    if shutil.which("cc") is None:
        command.append(f"CC={ZIG}")
    result = subprocess.run(
        command, cwd=package / "examples", capture_output=True, text=True, check=False
    )
    assert "WRONG" in result.stdout, result.stdout + result.stderr
    assert result.returncode != 0


def cmake_programs() -> tuple[str | None, str | None]:
    """Return cmake and ninja, from the environment of this interpreter or the path."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("cmake", path=places), shutil.which("ninja", path=places)


@pytest.mark.parametrize("name", ["digits", "m", "main", "test"])
def test_example_builds_and_runs_with_cmake(
    name: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    cmake, ninja = cmake_programs()
    if cmake is None or ninja is None:
        pytest.skip("not found: cmake and ninja, neither on PATH nor beside the interpreter")
    if name == "digits":
        package = copy_package(digits_packages["host"], tmp_path)
    else:
        package = build_one(models.add(), tmp_path, name=name)
    env = dict(os.environ)
    if shutil.which("cc") is None:
        (tmp_path / "cc").write_text(f'#!/bin/sh\nexec {ZIG} "$@"\n')
        (tmp_path / "cc").chmod(0o755)
        env["CC"] = str(tmp_path / "cc")
    for command in (
        [cmake, "-S", str(package / "examples"), "-B", "build", "-G", "Ninja",
         f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DCMAKE_BUILD_TYPE=Release"],
        [cmake, "--build", "build"],
    ):  # fmt: skip
        result = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
    ran = subprocess.run(
        [str(tmp_path / "build" / "main")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
    assert "outputs agree with the reference" in ran.stdout


def test_library_needs_nothing_but_the_systems_c_library(digits_packages: dict[str, Path]) -> None:
    """The plain dynamic loader of C finds the model and its descriptor."""
    library = ctypes.CDLL(str(next((digits_packages["host"] / "lib").glob("libdigits.[sd]*"))))
    library.digits_model.restype = ctypes.c_void_p
    library.mlopsc_model_get.restype = ctypes.c_void_p
    assert library.digits_model() == library.mlopsc_model_get() != 0


def test_library_refuses_null_and_unaligned_memory(several: Model) -> None:
    sizes = {s.name: s.nbytes for s in (*several.inputs, *several.outputs)}
    blocks = {name: np.zeros(size + 64, np.uint8) for name, size in sizes.items()}
    arena = several.new_arena()

    def pointers(specs: tuple[object, ...], **changed: int | None) -> ctypes.Array[ctypes.c_void_p]:
        names = [s.name for s in specs]  # type: ignore[attr-defined]
        places = {n: blocks[n].ctypes.data + -blocks[n].ctypes.data % 16 for n in names} | changed
        return (ctypes.c_void_p * len(names))(*(places[n] for n in names))

    def call(place: int | None = arena.ctypes.data, **changed: int | None) -> int:
        ins = pointers(several.inputs, **{k: v for k, v in changed.items() if k == "left"})
        outs = pointers(several.outputs, **{k: v for k, v in changed.items() if k == "total"})
        return int(several._run(ctypes.addressof(ins), ctypes.addressof(outs), place))

    assert call() == 0
    assert call(left=None) == 1
    assert call(total=None) == 1
    start = blocks["left"].ctypes.data + -blocks["left"].ctypes.data % 16
    assert call(left=start + 1) == 2
    start = blocks["total"].ctypes.data + -blocks["total"].ctypes.data % 16
    assert call(total=start + 2) == 2


def test_arena_must_be_there_and_aligned(digits: Model) -> None:
    image, scores = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 10), np.float32)
    assert digits.descriptor.arena_bytes > 0
    ins, outs = ((ctypes.c_void_p * 1)(a.ctypes.data) for a in (image, scores))
    arena = digits.new_arena()
    assert arena.ctypes.data % digits.descriptor.arena_align == 0
    assert arena.size >= digits.descriptor.arena_bytes
    for place, status in ((arena.ctypes.data, 0), (None, 1), (arena.ctypes.data + 1, 2)):
        assert digits._run(ctypes.addressof(ins), ctypes.addressof(outs), place) == status
