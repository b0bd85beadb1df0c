"""What a program on an emulated board needs besides the library: start-up code, linker script.

Takes a bare target's ``[run.qemu]`` table, where the board's memories are; gives the text of the
files, which the QEMU runner builds with and every package's example carries.
"""

from __future__ import annotations

from string import Template
from typing import Final

from mlopsc.resources import kernels_dir
from mlopsc.schema.target import Target

START: Final = "board_start.c"
SCRIPT: Final = "board.ld"
_START_BYTES: Final = 0x100  # room for Cortex-M's vectors, or RISC-V's first instructions


def board_files(target: Target) -> dict[str, str]:
    """Return the start-up code and the linker script for the emulated board, by file name."""
    board, folder = target.run.qemu, kernels_dir() / "harness"
    start, flash, length = board.start, board.flash.origin, board.flash.length
    if start is None:
        start, flash, length = flash, flash + _START_BYTES, length - _START_BYTES
    script = Template((folder / f"{SCRIPT}.in").read_text(encoding="utf-8")).substitute(
        machine=board.machine,
        start_origin=f"{start:#010x}",
        start_length=f"{_START_BYTES:#x}",
        flash_origin=f"{flash:#010x}",
        flash_length=f"{length:#x}",
        ram_origin=f"{board.ram.origin:#010x}",
        ram_length=f"{board.ram.length:#x}",
    )
    return {START: (folder / START).read_text(encoding="utf-8"), SCRIPT: script}


def board_arguments(target: Target) -> list[str]:
    """Return QEMU's arguments for a bare image on the target's board, without the image."""
    board = target.run.qemu
    firmware = [] if target.toolchain.target.startswith("thumb") else ["-bios", "none"]
    return ["-M", board.machine, *(["-cpu", board.cpu] if board.cpu else []), *firmware]
