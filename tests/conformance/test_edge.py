"""Microcontrollers: every edge target conforms, on every runner it has, with the same figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from support import copy_package

import mlopsc
from mlopsc.boards import SCRIPT, START, board_arguments, board_files
from mlopsc.errors import LimitError
from mlopsc.package_reader import read_package
from mlopsc.runners import run_package
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_image
from mlopsc.tools import find_program, run_program

ARM, RISCV = pytest.mark.tool("qemu-system-arm"), pytest.mark.tool("qemu-system-riscv32")
PROCESSORS = [
    pytest.param("cortex-m0plus", marks=ARM),
    pytest.param("cortex-m3", marks=[ARM, pytest.mark.slow]),
    pytest.param("cortex-m4f", marks=[ARM, pytest.mark.slow]),
    pytest.param("cortex-m7", marks=[ARM, pytest.mark.slow]),
    pytest.param("cortex-m33", marks=ARM),
    pytest.param("cortex-m55", marks=ARM),
    pytest.param("riscv32-imc", marks=RISCV),
    pytest.param("riscv32-imac", marks=[RISCV, pytest.mark.slow]),
]
LINUX = [
    pytest.param("aarch64-generic", marks=[pytest.mark.tool("qemu-aarch64"), pytest.mark.slow]),
    pytest.param("riscv64-gc", marks=[pytest.mark.tool("qemu-riscv64"), pytest.mark.slow]),
]


def small_network() -> Any:
    """Pixels, scaled by a power of two, through convolution, pool, dense layer and softmax."""
    nodes = [
        models.node("Cast", ["pixels"], ["cast"], to=1),
        models.node("Div", ["cast", "sixteen"], ["scaled"]),
        models.node("Conv", ["scaled", "w", "b"], ["conv"], pads=[1] * 4),
        models.node("Relu", ["conv"], ["relu"]),
        models.node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        models.node("Flatten", ["pool"], ["flat"]),
        models.node("Gemm", ["flat", "dense"], ["scores"]),
        models.node("Softmax", ["scores"], ["probabilities"]),
    ]
    weights = {
        "sixteen": np.float32([16]),
        "w": models.random(4, 1, 3, 3, seed=1),
        "b": models.random(4, seed=2),
        "dense": models.random(64, 3, seed=3) * np.float32(0.2),
    }
    pixels = models.value("pixels", [1, 1, 8, 8], "uint8")
    return models.model(nodes, [pixels], [models.value("probabilities", [1, 3])], weights)


def figures(package: Path) -> dict[str, tuple[int | None, int | None]]:
    """Run on every runner of the target; return instructions and stack, after checking outputs."""
    loaded, found = read_package(package), {}
    vectors = loaded.vectors()
    for runner in loaded.info.target.run.runners:
        result = run_package(loaded, [v.inputs for v in vectors], runner=runner, count=True)
        for made, vector in zip(result.outputs, vectors, strict=True):
            for spec in loaded.info.outputs:
                error = np.abs(made[spec.name] - vector.outputs[spec.name]).max()
                assert error <= 1e-5 * np.abs(vector.outputs[spec.name]).max(), runner
        found[runner] = (result.instructions, result.stack_bytes)
    return found


@pytest.mark.parametrize("target", [*PROCESSORS, *LINUX])
def test_runners_agree_to_the_instruction_and_the_byte(target: str, tmp_path: Path) -> None:
    models.save(small_network(), tmp_path / "net.onnx")
    mlopsc.build(tmp_path / "net.onnx", target, tmp_path)
    found = figures(tmp_path / target)
    assert set(found) == set(load_target(target).run.runners)
    ((instructions, stack),) = set(found.values())
    assert instructions is not None and 2_000 < instructions < 2_000_000
    assert stack is not None and 16 <= stack < 4096


@ARM
def test_profile_in_qemu_is_that_of_unicorn_and_of_the_library_alone(
    digits_packages: dict[str, Path],
) -> None:
    package = read_package(digits_packages["cortex-m7"])
    inputs = [package.vectors()[0].inputs]
    unicorn, qemu = (
        run_package(package, inputs, runner=name, count=True) for name in ("unicorn", "qemu")
    )
    assert unicorn.profile == qemu.profile
    assert sum(qemu.profile.values()) == qemu.instructions
    assert not {"main", "harness_run", "harness_begin", "harness_end"} & set(qemu.profile)
    uncounted = run_package(package, inputs, runner="qemu")
    assert (uncounted.instructions, uncounted.stack_bytes) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("target", [*PROCESSORS, *LINUX])
def test_example_conforms_with_the_same_figures_everywhere(
    target: str, digits_bundle: Path, tmp_path: Path
) -> None:
    mlopsc.build(digits_bundle, target, tmp_path)
    assert len(set(figures(tmp_path / target).values())) == 1


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("riscv32-imac", marks=RISCV),
        pytest.param("cortex-m55", marks=[ARM, pytest.mark.slow]),
        pytest.param("cortex-m33", marks=[ARM, pytest.mark.slow]),
        pytest.param("cortex-m0plus", marks=[ARM, pytest.mark.slow]),
    ],
)
@pytest.mark.tool("make")
def test_example_program_runs_on_the_board(target: str, tmp_path: Path) -> None:
    models.save(small_network(), tmp_path / "net.onnx")
    mlopsc.build(tmp_path / "net.onnx", target, tmp_path)
    copy = copy_package(tmp_path / target, tmp_path / "used")
    chain = load_target(target).toolchain
    compiler = f"CC={sys.executable} -m ziglang cc -target {chain.target} -mcpu={chain.cpu}"
    result = subprocess.run(
        ["make", "run", compiler], cwd=copy / "examples", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    printed = result.stdout + result.stderr
    assert result.returncode == 0 and "outputs agree with the reference" in printed, printed


GATHERS = """
#include <stdint.h>
void example_write(const char *text);
volatile int32_t zero;
int32_t input[128], output[64];
__attribute__((noinline)) void sums(const int32_t *restrict p, int32_t *restrict out) {
  for (int32_t i = 0; i < 8; ++i)
    for (int32_t j = 0; j < 4; ++j) {
      int32_t at = i * 10 + j * 2;
      out[i * 8 + j * 2] = p[at] * 3 + p[at + 1] * 5 + p[at + 10] * 7;
      out[i * 8 + j * 2 + 1] = p[at + 1] * 3 + p[at + 2] * 5 + p[at + 11] * 7;
    }
}
int main(void) {
  for (int32_t i = 0; i < 128; ++i) input[i] = i * i + zero;
  sums(input, output);
  for (int32_t i = 0; i < 64; ++i) {
    int32_t at = i / 8 * 10 + i % 8;
    if (output[i] != input[at] * 3 + input[at + 1] * 5 + input[at + 10] * 7) return 1;
  }
  return 42;
}
"""


@ARM
def test_loops_that_could_gather_end_on_helium(tmp_path: Path) -> None:
    """LLVM 22 makes this loop endless if it may use gathers."""
    target = load_target("cortex-m55")
    for name, text in {"main.c": GATHERS, **board_files(target)}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    flags = ["-Wl,-e,Reset_Handler", f"-Wl,-T,{SCRIPT}"]
    made = compile_object(target, "main.c", folder=tmp_path)
    link_image(target, [made, START], "image.elf", folder=tmp_path, flags=flags)
    qemu = find_program(target.run.qemu.program, install="")
    arguments = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting"]
    result = run_program(
        qemu,
        [*board_arguments(target), *arguments, "-kernel", "image.elf"],
        cwd=tmp_path,
        timeout=60,
    )
    assert result.returncode == 42


@pytest.mark.parametrize(("board", "fits"), [("nrf52840", True), ("stm32f103rb", False)])
def test_board_takes_what_fits_and_refuses_what_does_not(
    board: str, fits: bool, tmp_path: Path
) -> None:
    """A dense layer of 160 KiB: more than the flash of the smaller board."""
    weights = {"w": models.random(200, 205)}
    nodes = [models.node("MatMul", ["x", "w"], ["y"])]
    made = models.model(
        nodes, [models.value("x", [1, 200])], [models.value("y", [1, 205])], weights
    )
    models.save(made, tmp_path / "net.onnx")
    if fits:
        mlopsc.build(tmp_path / "net.onnx", board, tmp_path)
        assert mlopsc.conform(tmp_path / board).verdict == "pass"
        return
    with pytest.raises(LimitError, match=board):
        mlopsc.build(tmp_path / "net.onnx", board, tmp_path)
