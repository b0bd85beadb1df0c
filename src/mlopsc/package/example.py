"""The example in every package: a program that runs test vector 0 and checks the answer.

Its build files work unchanged: on Linux and macOS with the system's compiler, for WebAssembly with
a WASI compiler, on bare metal with a cross compiler and an emulator of the board.
"""

from __future__ import annotations

from string import Template
from typing import Literal

from mlopsc.boards import board_arguments, board_files
from mlopsc.bundle import Bundle
from mlopsc.dtypes import DTYPES
from mlopsc.package.c_arrays import array
from mlopsc.package.driver import offset_macro, parameter_names
from mlopsc.package.phases import is_threaded
from mlopsc.resources import kernels_dir
from mlopsc.schema.program import Program
from mlopsc.schema.target import Target


def example_files(program: Program, bundle: Bundle, target: Target) -> dict[str, str]:
    """Return the files of ``examples/`` by name."""
    folder = kernels_dir() / "example"
    system = target.toolchain.system
    kind = "hosted" if system in ("linux", "macos") else system
    threads = is_threaded(program)
    names = {
        "name": program.name,
        "prefix": program.name.upper(),
        "target": target.name,
        "zig": f"python3 -m ziglang cc -target {target.toolchain.target} "
        f"-mcpu={target.toolchain.cpu}",
        "cpu": target.compile.cpu,
        "machine": target.run.qemu.machine,
        "qemu": target.run.qemu.program,
        "board": " ".join(board_arguments(target)),
        "gcc": _gcc(target),
        "thread_flag": " -pthread" if threads else "",
        "find_threads": "find_package(Threads REQUIRED)\n\n" if threads else "",
        "thread_library": ";Threads::Threads" if threads else "",
        "enter": _enter(program),
        "call": _call(program),
        "outputs": _compare(program, target),
    }
    files = {
        "main.c": (folder / "main.c.in", "main.c"),
        "Makefile": (folder / f"Makefile.{kind}.in", "Makefile"),
        "CMakeLists.txt": (folder / f"CMakeLists.{kind}.in", "CMakeLists.txt"),
    }
    texts = {
        name: Template(path.read_text(encoding="utf-8")).substitute(names)
        for name, (path, _) in files.items()
    }
    if kind == "bare":
        texts.update(board_files(target))
    texts["vector.h"] = _vector_header(program, bundle)
    return texts


def _gcc(target: Target) -> str:
    """Return a command of GCC that makes code for a bare target, as a suggestion."""
    compile_ = target.compile
    if target.toolchain.target.startswith("thumb"):
        return f"arm-none-eabi-gcc -mcpu={compile_.cpu} -mthumb -mfloat-abi={compile_.float_abi}"
    letters = "".join(f.removeprefix("+") for f in compile_.features if f.startswith("+"))
    return f"riscv64-unknown-elf-gcc -march=rv32i{letters}_zicsr -mabi={compile_.abi}"


def _enter(program: Program) -> str:
    """Return the lines that put inputs into the arena, and say where outputs lie in it."""
    if program.arena_io is None:
        return ""
    ins, outs = parameter_names(program)
    lines = [
        f"  for (size_t i = 0; i < {spec.nbytes}; ++i) "
        f"arena[{offset_macro(program, 'INPUT', index)} + i] = ((const unsigned char *){name})[i];"
        for index, (spec, name) in enumerate(zip(program.inputs, ins, strict=True))
    ]
    lines += [
        f"  {DTYPES[spec.dtype].c} *{name} = {_in_arena(program, 'OUTPUT', index)};"
        for index, (spec, name) in enumerate(zip(program.outputs, outs, strict=True))
    ]
    return "\n".join(["", *lines, ""])


def _in_arena(program: Program, kind: Literal["INPUT", "OUTPUT"], index: int) -> str:
    """Return a C expression for the pointer to an input or output in the arena."""
    spec = (program.inputs if kind == "INPUT" else program.outputs)[index]
    offset = offset_macro(program, kind, index)
    return f"({DTYPES[spec.dtype].c} *)(void *)(arena + {offset})"


def _call(program: Program) -> str:
    ins, outs = parameter_names(program)
    if program.arena_io is not None:
        ins = [_in_arena(program, "INPUT", index) for index in range(len(ins))]
    return ", ".join([*ins, *outs, "arena"])


def _compare(program: Program, target: Target) -> str:
    """Return one ``CHECK(...)`` line per output."""
    _, outs = parameter_names(program)
    return "\n".join(
        f"  CHECK({n}, expected_{n}, {target.tolerance(s.dtype, program.accuracy)!r});"
        for s, n in zip(program.outputs, outs, strict=True)
    )


def _vector_header(program: Program, bundle: Bundle) -> str:
    ins, outs = parameter_names(program)
    vector = bundle.vectors[0]
    lines = [
        f"/* Test vector 0 of {program.name}, exact to the bit: generated. */",
        "#include <stdint.h>",
        "",
    ]
    for spec, name in zip(program.inputs, ins, strict=True):
        lines.append(array(name, spec.dtype, vector.inputs[spec.name]))
    for spec, name in zip(program.outputs, outs, strict=True):
        lines.append(array(f"expected_{name}", spec.dtype, vector.outputs[spec.name]))
        if program.arena_io is None:
            lines.append(f"static {DTYPES[spec.dtype].c} {name}[{max(spec.elements, 1)}];")
    return "\n".join(lines) + "\n"
