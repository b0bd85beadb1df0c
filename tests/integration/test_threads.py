"""Threads of packages: the same bits for any number, none where the target has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from support import check_refused, run_cli

import mlopsc
from mlopsc.errors import InputError
from mlopsc.package_reader import read_package

WITHOUT = """
name = "without"
extends = "host"

[toolchain]
threads = false
"""


def large() -> object:
    """Return a network whose kernels are worth several threads, padding and reductions included."""
    return models.model(
        [
            models.node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            models.node("Relu", ["c1"], ["r1"]),
            models.node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
            models.node("Softmax", ["c2"], ["s"], axis=1),
            models.node("GlobalAveragePool", ["s"], ["p"]),
            models.node("Flatten", ["p"], ["f"]),
            models.node("Gemm", ["f", "w3"], ["scores"]),
        ],
        [models.value("image", [1, 16, 57, 61])],
        [models.value("scores", [1, 500]), models.value("s", [1, 64, 29, 31])],
        {
            "w1": models.random(32, 16, 3, 3) / 10,
            "b1": models.random(32),
            "w2": models.random(64, 32, 3, 3) / 10,
            "w3": models.random(64, 500),
        },
    )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages with and without threads for this machine, and one for an emulated processor."""
    folder = tmp_path_factory.mktemp("threads")
    models.save(large(), folder / "large.onnx")
    (folder / "without.toml").write_text(WITHOUT)
    mlopsc.import_model(folder / "large.onnx", folder / "large.mlb")
    targets = ["host", str(folder / "without.toml"), "aarch64-generic"]
    built = mlopsc.build(folder / "large.mlb", targets, folder / "out", source_code=True)
    return {name: folder / "out" / name for name in built}


def header_of(package: Path) -> str:
    return (package / "include" / "large.h").read_text()


def test_any_number_of_threads_gives_the_same_bits(packages: dict[str, Path]) -> None:
    image = models.random(1, 16, 57, 61, seed=3)
    expected = mlopsc.load(packages["without"])(image=image)
    assert "#define LARGE_THREADS 1" in header_of(packages["host"])
    for threads in (1, 2, 3, 16, 64, None):
        model = mlopsc.load(packages["host"], threads=threads)
        for _ in range(20):
            found = model(image=image)
            assert all(np.array_equal(found[name], expected[name]) for name in expected), threads


@pytest.mark.parametrize("target", ["host", "without", "aarch64-generic"])
def test_package_conforms(target: str, packages: dict[str, Path]) -> None:
    assert mlopsc.conform(packages[target]).verdict == "pass"


def test_without_threads_nothing_of_them_is_linked(packages: dict[str, Path]) -> None:
    info = read_package(packages["without"]).info
    assert not [symbol for symbol in info.undefined_symbols if "pthread" in symbol]
    assert info.memory.writable == 0
    assert "#define LARGE_THREADS 0" in header_of(packages["without"])
    assert not (packages["without"] / "src" / "mlopsc_pool.c").exists()
    with_threads = read_package(packages["host"]).info
    assert "pthread_create" in with_threads.undefined_symbols
    assert 0 < with_threads.memory.writable < 10_000  # a line of cache per thread
    assert (packages["host"] / "src" / "mlopsc_pool.c").exists()


def test_example_links_threads(packages: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(packages["host"], tmp_path / "host")
    command = ["make", "--no-print-directory", "run"]
    if shutil.which("cc") is None:
        command.append(f"CC={sys.executable} -m ziglang cc")
    result = subprocess.run(
        command, cwd=tmp_path / "host" / "examples", capture_output=True, text=True, check=False
    )
    assert "outputs agree with the reference" in result.stdout, result.stdout + result.stderr
    assert "-pthread" in result.stdout


def test_a_forked_process_computes_the_same(packages: dict[str, Path]) -> None:
    image = models.random(1, 16, 57, 61, seed=4)
    model = mlopsc.load(packages["host"], threads=2)
    expected = model(image=image)["scores"].tobytes()
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = all(model(image=image)["scores"].tobytes() == expected for _ in range(5))
        finally:
            os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert model(image=image)["scores"].tobytes() == expected


@pytest.mark.parametrize("threads", [0, -1, 65, 1 << 40, "2", 1.5])
def test_numbers_of_threads_out_of_range_are_refused(
    threads: object, packages: dict[str, Path]
) -> None:
    with pytest.raises(InputError, match="expected a number from 1 to 64") as caught:
        mlopsc.load(packages["host"], threads=threads)  # type: ignore[arg-type]
    assert f"threads={threads!r}" in caught.value.message
    assert caught.value.hint


def test_threads_are_refused_where_the_package_has_none(packages: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"threads=2.*'without'"):
        mlopsc.load(packages["without"], threads=2)
    assert mlopsc.load(packages["without"], threads=1).outputs


def test_command_line_chooses_threads(packages: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", models.random(1, 16, 57, 61, seed=5))
    image = f"image={tmp_path / 'image.npy'}"
    found = []
    for threads in ("1", "3"):
        out = tmp_path / f"{threads}.npz"
        result = run_cli("run", packages["host"], "--input", image, "--threads", threads, "-o", out)
        assert result.returncode == 0, result.stderr
        with np.load(out) as outputs:
            found.append({name: outputs[name].tobytes() for name in outputs.files})
    assert found[0] == found[1]
    for package, mention in ((packages["aarch64-generic"], "unicorn"), (packages["host"], "64")):
        threads = "2" if mention == "unicorn" else "65"
        result = run_cli("run", package, "--input", image, "--threads", threads)
        check_refused(result, InputError, f"threads={threads}", mention)
