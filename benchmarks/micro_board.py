"""Runs the kernels for microcontrollers on a board that QEMU emulates, many cases in one start.

For processors that Unicorn does not have; ``micro_machine.py`` has the cases and other machines.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from micro_machine import Arguments, Array, _compile

from mlopsc.boards import SCRIPT, START, board_arguments, board_files
from mlopsc.lower.micro import KERNELS, Operator, Variant
from mlopsc.resources import kernels_dir
from mlopsc.runners import qemu
from mlopsc.runners.counting import Symbols
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_image
from mlopsc.tools import find_program, run_program

# In the order of micro_board.c.
_OPERATORS: list[Operator] = [
    "conv", "depthwise", "dense", "conv_s4", "depthwise_s4", "dense_s4", "add", "mean", "table",
    "softmax",
]  # fmt: skip
_PARTS = 8  # of a case: those of micro_calls.c
_OUTPUT, _SCRATCH = 4, 5
_GUARD = 64
_TIMEOUT_S = 300.0


class BoardKernels:
    """The kernels of a variant on an emulated board; needs its QEMU."""

    def __init__(self, variant: Variant, target_name: str, compiler: Sequence[str] = ()) -> None:
        """Compile the kernels for a target that has ``[run.qemu]``.

        Args:
            variant: Which kernels.
            target_name: The target.
            compiler: Command that compiles the kernels instead of the project's compiler.
        """
        self._target = load_target(target_name)
        self._place = tempfile.TemporaryDirectory(prefix="mlopsc-micro-")
        self._folder = Path(self._place.name)
        self._objects = _compile(variant, self._target, self._folder, [])
        if compiler:
            program = find_program(compiler[0], install=f"apt-get install gcc-{compiler[0][:-4]}")
            for source in {kernel.source for kernel in KERNELS[variant].values()}:
                made = str(Path(source).with_suffix(".o"))
                command = [*compiler[1:], "-std=c11", "-ffreestanding", "-c", source, "-o", made]
                done = run_program(program, command, cwd=self._folder)
                assert done.returncode == 0, done.stderr.decode()
                assert made in self._objects
        for name, text in board_files(self._target).items():
            (self._folder / name).write_text(text, encoding="utf-8")
        self._objects.append(compile_object(self._target, START, folder=self._folder))
        shutil.copyfile(kernels_dir() / "harness" / "micro_board.c", self._folder / "micro_board.c")
        self.instructions = 0

    def call(self, operator: Operator, a: Arguments, *, counter: bool = False) -> Array:
        """Return the bytes of the output; with ``counter`` set ``instructions``."""
        return self._run([(operator, a)], counter=counter)[0]

    def call_all(self, cases: Sequence[tuple[Operator, Arguments]]) -> list[Array]:
        """Return the bytes of the output of every case."""
        return self._run(cases, counter=False)

    def code_bytes(self) -> dict[str, int]:
        """Size of each function of the kernels."""
        sizes = {}
        for name in self._objects:
            table = ELFFile(io.BytesIO((self._folder / name).read_bytes()))
            functions = table.get_section_by_name(".symtab").iter_symbols()
            sizes |= {s.name: s["st_size"] for s in functions if s["st_info"]["type"] == "STT_FUNC"}
        return sizes

    def _run(self, cases: Sequence[tuple[Operator, Arguments]], *, counter: bool) -> list[Array]:
        self._link(cases)
        symbols = Symbols((self._folder / "image.elf").read_bytes())
        program = qemu._program(self._target)
        plugin = qemu._plugin(program, symbols, "none", self._folder) if counter else []
        arguments = [*plugin, *board_arguments(self._target), "-nographic", "-monitor", "none",
                     "-serial", "none", "-semihosting-config", "enable=on,target=native",
                     "-kernel", "image.elf"]  # fmt: skip
        done = run_program(program, arguments, cwd=self._folder, timeout=_TIMEOUT_S)
        assert done.returncode == 0, (done.returncode, done.stderr, done.stdout)
        if counter:
            self.instructions = sum(qemu._profile(self._folder / qemu._COUNTS, symbols).values())
        data, at, found = (self._folder / "results.bin").read_bytes(), 0, []
        for operator, a in cases:
            found.append(np.frombuffer(data, np.int8, a.y_bytes, at))
            at += a.y_bytes + 1
            assert data[at - 1] == 0, f"{operator} wrote beside its buffers: {a.shape}"
        return found

    def _link(self, cases: Sequence[tuple[Operator, Arguments]]) -> None:
        contents = b"".join(_case(*case) for case in cases)
        (self._folder / "cases.bin").write_bytes(contents)
        sizes = [max(a.x.nbytes, a.y_bytes, a.scratch_bytes) for _, a in cases]
        constants = {
            "CASES": len(cases),
            "BUFFER_BYTES": max(sizes) + 2 * _GUARD,
            "RESULT_BYTES": sum(a.y_bytes + 1 for _, a in cases),
        }
        (self._folder / "micro_board.h").write_text(
            "".join(f"#define {name} {value}u\n" for name, value in constants.items())
        )
        main = compile_object(self._target, "micro_board.c", folder=self._folder)
        flags = ["-Wl,-e,Reset_Handler", f"-Wl,-T,{SCRIPT}"]
        triple = self._target.toolchain.target
        link_image(
            self._target,
            [main, *self._objects],
            "image.elf",
            folder=self._folder,
            flags=flags,
            triple=triple,
        )


def _case(operator: Operator, a: Arguments) -> bytes:
    parts = {0: a.x, 1: a.w, 2: a.bias, 3: a.multiplier, 6: a.shape_words(), 7: a.exponentials}
    sizes = {i: part.nbytes for i, part in parts.items()}
    sizes |= {_OUTPUT: a.y_bytes, _SCRATCH: a.scratch_bytes}
    header = np.zeros(16, np.uint32)
    header[:2] = _OPERATORS.index(operator), a.in_place
    header[2 : 2 + _PARTS] = [sizes[i] for i in range(_PARTS)]
    contents = [header, *parts.values()]
    return b"".join(data + b"\0" * (-len(data) % 64) for data in (c.tobytes() for c in contents))
