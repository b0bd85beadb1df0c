"""Compilers and flags for the C that packages deliver, and programs made of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from mlopsc import toolchain
from mlopsc.boards import SCRIPT, START, board_arguments
from mlopsc.targets import load_target

STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
# Beyond what is promised; what the single file keeps.
STRICTER = ("-Wshadow", "-Wundef", "-Wcast-qual", "-Wstrict-prototypes", "-Wmissing-prototypes",
            "-Wdouble-promotion")  # fmt: skip
ZIG = (sys.executable, "-m", "ziglang", "cc")
ZIG_M4 = (*ZIG, "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp")
GCC_M4 = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard",
          "-mfpu=fpv4-sp-d16", "-ffreestanding")  # fmt: skip
CLANG_M4 = ("clang", "--target=thumbv7em-none-eabihf", "-mcpu=cortex-m4", "-ffreestanding")
ZIG_M55 = (*ZIG, "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55+mve+fp_armv8d16")
GCC_M55 = ("arm-none-eabi-gcc", "-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-ffreestanding")
COMPILERS = {"gcc": ("gcc",), "clang": ("clang",), "zig-m4": ZIG_M4, "gcc-m4": GCC_M4,
             "clang-m4": CLANG_M4, "zig-m55": ZIG_M55, "gcc-m55": GCC_M55}  # fmt: skip


def compilers(*default: str) -> pytest.MarkDecorator:
    """Return the parameter ``compiler``: those of ``default``, and in the full run all."""
    found = []
    for name, command in COMPILERS.items():
        tool = [] if command[0] == sys.executable else [pytest.mark.tool(command[0])]
        slow = [] if name in default else [pytest.mark.slow]
        found.append(pytest.param(name, marks=[*tool, *slow]))
    return pytest.mark.parametrize("compiler", found)


UART = {"DATA": "0x40004000", "STATUS": "0x40004004", "MASK": "1", "READY": "0",
        "CONTROL": "0x40004008", "ENABLE": "1"}  # fmt: skip  # of QEMU's MPS2 boards


def run(command: Sequence[str | Path], timeout: float = 120) -> str:
    """Return what a command prints; it must succeed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def compile_strictly(
    compiler: str, files: Iterable[Path], folder: Path, *flags: str | Path
) -> list[Path]:
    """Compile each file with every warning an error; return the objects, in ``folder``."""
    objects = []
    for number, file in enumerate(files):
        output = folder / f"{number}_{file.stem}.o"
        run([*COMPILERS[compiler], *STRICT, *flags, "-c", file, "-o", output])
        objects.append(output)
    assert objects
    return objects


def link_image(target: str, inputs: Sequence[str | Path], examples: Path, folder: Path) -> Path:
    """Link a program for the board that a target is emulated on, with its start-up code."""
    flags = ["-DEXAMPLE_BARE", "-Wl,-e,Reset_Handler", f"-Wl,-T,{examples / SCRIPT}"]
    files = [*map(str, inputs), str(examples / START)]
    toolchain.link_image(load_target(target), files, "image.elf", folder=folder, flags=flags)
    return folder / "image.elf"


def on_board(target: str, image: Path, *, serial: str = "none") -> tuple[int, str]:
    """Return exit status and output of a program on a target's emulated board."""
    chosen = load_target(target)
    command = [chosen.run.qemu.program, *board_arguments(chosen), "-display", "none", "-monitor",
               "none", "-serial", serial, "-semihosting-config", "enable=on,target=native",
               "-kernel", image]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def globals_of(objects: Iterable[Path]) -> dict[str, set[str]]:
    """Return the symbols that objects define for others, and those they expect."""
    found: dict[str, set[str]] = {"defined": set(), "undefined": set()}
    for path in objects:
        for line in run([shutil.which("nm") or "nm", path]).splitlines():
            match = re.fullmatch(r"[0-9a-f ]* ([A-Za-z]) (\S+)", line)
            if match and (match[1].isupper() or match[1] == "w"):
                found["undefined" if match[1] == "U" else "defined"].add(match[2])
    return found
