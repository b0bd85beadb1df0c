"""The example in every package: a program that runs test vector 0 and checks the answer.

Its build files work unchanged: on Linux and macOS with the system's compiler, for WebAssembly with
a WASI compiler, on bare metal with a cross compiler and an emulator of the board.
"""

from __future__ import annotations

from string import Template

from mlopsc.bundle import Bundle
from mlopsc.dtypes import DTYPES
from mlopsc.package.c_arrays import array
from mlopsc.package.driver import parameter_names
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
        "thread_flag": " -pthread" if threads else "",
        "find_threads": "find_package(Threads REQUIRED)\n\n" if threads else "",
        "thread_library": ";Threads::Threads" if threads else "",
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
        harness = kernels_dir() / "harness"
        for name in ("cortex_m_start.c", "cortex_m.ld"):
            texts[name] = (harness / name).read_text(encoding="utf-8")
    texts["vector.h"] = _vector_header(program, bundle)
    return texts


def _call(program: Program) -> str:
    ins, outs = parameter_names(program)
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
        lines.append(f"static {DTYPES[spec.dtype].c} {name}[{max(spec.elements, 1)}];")
    return "\n".join(lines) + "\n"
