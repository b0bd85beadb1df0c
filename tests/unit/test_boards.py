"""Boards are data: limits and clocks, the memories of emulated ones; and what runners measure."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from mlopsc.boards import SCRIPT, START, board_arguments, board_files
from mlopsc.errors import BrokenPackageError
from mlopsc.resources import targets_dir
from mlopsc.runners import counting, qemu
from mlopsc.runners.counting import Symbols, painted, stack_depth
from mlopsc.schema.target import Limits
from mlopsc.targets import load_target, target_names
from mlopsc.toolchain import compile_object, link_image

EDGE = [name for name in target_names() if load_target(name).family == "edge"]
BOARDS = [name for name in EDGE if load_target(name).limits != Limits()]


def test_boards_of_every_processor_are_bundled() -> None:
    bases = set()
    for name in BOARDS:
        raw = tomllib.loads((targets_dir() / "edge" / f"{name}.toml").read_text(encoding="utf-8"))
        bases.add(raw["extends"])
    assert bases == set(EDGE) - set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_board_has_limits_and_a_clock_and_compiles_like_its_processor(name: str) -> None:
    board = load_target(name)
    raw = tomllib.loads((targets_dir() / "edge" / f"{name}.toml").read_text(encoding="utf-8"))
    base = load_target(raw["extends"])
    assert (board.compile, board.toolchain, board.run) == (base.compile, base.toolchain, base.run)
    assert base.limits == Limits() and base.hardware.clock_hz is None
    assert 16_000_000 <= (board.hardware.clock_hz or 0) <= 1_000_000_000
    flash, ram = board.limits.flash_bytes, board.limits.ram_bytes
    assert flash and ram and ram < flash and ram % 4096 == flash % 4096 == 0
    clock = f"{(board.hardware.clock_hz or 0) // 1_000_000} MHz"
    assert clock in board.description  # people read the same facts


@pytest.mark.parametrize("name", EDGE)
def test_float_abi_is_that_of_every_triple(name: str) -> None:
    target = load_target(name)
    assert target.hardware.micro != "none"
    if not target.toolchain.target.startswith("thumb"):
        assert target.compile.abi == "ilp32"
        return
    hard = target.compile.float_abi == "hard"
    assert target.compile.triple.endswith("-eabihf" if hard else "-eabi")
    assert target.toolchain.target.endswith("-eabihf" if hard else "-eabi")
    assert ("fp" in target.toolchain.cpu) == hard


@pytest.mark.parametrize("name", EDGE)
def test_start_lies_before_or_outside_of_flash(name: str) -> None:
    target = load_target(name)
    files = board_files(target)
    lines = [line.split() for line in files[SCRIPT].splitlines() if "ORIGIN = " in line]
    found = {p[0]: (int(p[5].rstrip(","), 16), int(p[8], 16)) for p in lines}
    assert set(found) == {"START", "FLASH", "RAM"}
    spans = sorted((origin, origin + length) for origin, length in found.values())
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert found["RAM"] == (target.run.qemu.ram.origin, target.run.qemu.ram.length)
    start = target.run.qemu.start
    assert found["START"][0] == (target.run.qemu.flash.origin if start is None else start)
    assert "Reset_Handler" in files[START]
    assert target.run.qemu.machine in board_arguments(target)


def test_depth_of_the_stack_is_what_was_overwritten() -> None:
    memory = bytearray(painted(1024))
    assert stack_depth(bytes(memory)) == 0
    memory[1000:1001] = b"\x01"
    assert stack_depth(bytes(memory)) == 24
    memory[500] ^= 0xFF
    memory[1004] ^= 0xFF
    assert stack_depth(bytes(memory)) == 524
    memory[0] ^= 0xFF
    with pytest.raises(BrokenPackageError, match="1024 bytes of stack"):
        stack_depth(bytes(memory))


def test_paint_of_the_harness_is_that_of_the_runner() -> None:
    harness = Path(counting.kernels_dir()) / "harness" / "run_vectors.c"
    assert f"#define PAINT {counting.PAINT:#010X}".replace("0X", "0x") in harness.read_text()


def test_instructions_are_summed_by_the_function_they_lie_in(tmp_path: Path) -> None:
    target = load_target("riscv32-imc")
    (tmp_path / "two.c").write_text("int first(int x){return x+1;} int second(int x){return x*3;}")
    made = compile_object(target, "two.c", folder=tmp_path)
    flags = ["-Wl,-e,first", "-Wl,-u,second"]
    link_image(target, [made], "two.elf", folder=tmp_path, flags=flags)
    symbols = Symbols((tmp_path / "two.elf").read_bytes())
    first, second = symbols.addresses["first"], symbols.addresses["second"]
    assert symbols.profile([(first, 5), (second, 7), (second + 2, 2)]) == {"second": 9, "first": 5}
    assert symbols.function_at(0) == "unknown code"


def test_qemu_without_plugins_counts_nothing(tmp_path: Path) -> None:
    program = tmp_path / "qemu-old"
    program.write_text("#!/bin/sh\necho '-machine [type=]name'\n")
    program.chmod(0o755)
    assert qemu._plugin(program, Symbols.__new__(Symbols), "net", tmp_path) == []
